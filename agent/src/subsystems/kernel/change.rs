//! Changes kernel settings and learns from what the kernel says to it.

use std::path::Path;

use nix::errno::Errno;
use trimtab_domain::kernel::blocklist;
use trimtab_domain::kernel::huge_pages::Pool;
use trimtab_domain::kernel::module::ModuleName;
use trimtab_domain::kernel::plan::too_few;
use trimtab_domain::kernel::step::Occasion;
use trimtab_domain::kernel::thp::ThpFile;
use trimtab_domain::kernel_file::Rejection;
use trimtab_domain::plan::Cause;
use trimtab_domain::record::{LedgerChange, Original, Record};
use trimtab_domain::sysctl::ordered::Ordered;

use super::{Kernel, observe};
use crate::ports::modules::{ModuleError, ModuleObstacle, Modules};
use crate::ports::{FileError, HostFiles, Ledger};
use crate::reconcile::{Error, Subsystem};

impl<F: HostFiles, M: Modules, L: Ledger> Kernel<F, M, L> {
    pub(super) fn commit(&self, changes: &[LedgerChange]) -> Result<(), Error> {
        let failed = |error| Error::transient("the ledger does not take the records of the kernel settings", error);
        self.ledger.commit(Self::NAME, changes).map_err(failed)
    }

    pub(super) fn set_thp(&self, file: ThpFile, to: &str) -> Result<(), Error> {
        let written = self.files.write(Path::new(file.path()), to);
        written.map_err(|error| self.failed(file.object(), to, error))
    }

    /// Orders pages and looks at what the kernel really gave. Fewer than asked are kept, and the ledger remembers the
    /// number, so that the kernel is not asked again and again for memory that it does not have.
    pub(super) fn set_pages(&self, pool: Pool, to: u64, occasion: Occasion) -> Result<(), Error> {
        let (object, wish) = (pool.to_string(), to.to_string());
        let has_numa = self.files.list(Path::new(&pool.folder())).is_ok_and(|entries| entries.is_some());
        let folder = observe::folder(pool, has_numa);
        let folder = Path::new(&folder);
        self.files.write(&folder.join("nr_hugepages"), &wish).map_err(|error| self.failed(&object, &wish, error))?;
        let Some(given) = observe::ordered_pages(&*self.files, pool, has_numa) else { return Ok(()) };
        if given >= to || occasion == Occasion::GiveBack {
            return Ok(());
        }
        let ordered = Ordered { read_back: Some(given.to_string()), ..Ordered::new(&wish) };
        // The ledger keeps the original that it has, which is the one from before the first order.
        let record = Record { object: object.clone(), original: Original::Unknown, ordered: ordered.to_text() };
        self.commit(&[LedgerChange::Promise(record)])?;
        let detail = too_few(to, given, None);
        self.rejections()
            .insert(object.clone(), Rejection { wish, cause: Cause::Insufficient, detail: detail.clone() });
        Err(Error::refused(format!("cannot have {to} pages in {object}"), detail))
    }

    pub(super) async fn load(&self, module: &ModuleName) -> Result<(), Error> {
        let loaded = self.modules.load(module).await;
        loaded.map_err(|error| self.module_failed(module, "loaded", error))
    }

    pub(super) async fn unload(&self, module: &ModuleName) -> Result<(), Error> {
        let unloaded = self.modules.unload(module).await;
        unloaded.map_err(|error| self.module_failed(module, "not loaded", error))
    }

    pub(super) fn write_blocklist(&self, text: &str) -> Result<(), Error> {
        let written = self.files.replace(Path::new(blocklist::PATH), text);
        written.map_err(|error| self.failed(blocklist::PATH, text, error))
    }

    pub(super) fn remove_blocklist(&self) -> Result<(), Error> {
        let removed = self.files.remove(Path::new(blocklist::PATH));
        removed.map_err(|error| self.failed(blocklist::PATH, "", error))
    }

    fn module_failed(&self, module: &ModuleName, wish: &str, error: ModuleError) -> Error {
        let what = format!("module {module} is not {wish}");
        let (cause, remedy) = match error.obstacle {
            ModuleObstacle::Other => return Error::transient(what, error),
            ModuleObstacle::NoProgram => (Cause::Unsupported, "put modprobe (kmod) beside the agent"),
            ModuleObstacle::Missing => (Cause::Absent, "install the package that brings the module"),
            ModuleObstacle::NotPermitted => (Cause::NotPermitted, "the agent needs CAP_SYS_MODULE on the host"),
            ModuleObstacle::InUse => (Cause::OwnedByOther, "stop what uses it"),
            ModuleObstacle::Rejected => (Cause::Unsupported, "see the kernel log"),
        };
        self.refused(&module.object(), wish, cause, format!("{error}; {remedy}"));
        Error::refused(what, error)
    }

    fn failed(&self, object: &str, wish: &str, error: FileError) -> Error {
        let what = format!("cannot set {object}");
        let Some(errno) = error.source.raw_os_error().map(Errno::from_raw) else {
            return Error::transient(what, error);
        };
        let (cause, remedy) = match errno {
            Errno::EINVAL | Errno::ERANGE => (Cause::InvalidValue, "ask for a value that this kernel takes"),
            Errno::EPERM | Errno::EACCES | Errno::EROFS => {
                (Cause::NotPermitted, "run the agent as root of the host, with the host's files writable")
            }
            Errno::EOPNOTSUPP | Errno::ENOSYS => (Cause::Unsupported, "this kernel cannot do it"),
            _ => return Error::transient(what, error),
        };
        self.refused(object, wish, cause, format!("{error}: {}; {remedy}", errno.desc()));
        Error::refused(what, error)
    }

    fn refused(&self, object: &str, wish: &str, cause: Cause, detail: String) {
        self.rejections().insert(object.to_owned(), Rejection { wish: wish.to_owned(), cause, detail });
    }
}
