//! Writes values and learns from what the kernel says to them.

use nix::errno::Errno;
use trimtab_domain::plan::Cause;
use trimtab_domain::record::{LedgerChange, Original, Record};
use trimtab_domain::sysctl::SysctlKey;
use trimtab_domain::sysctl::observation::Rejection;
use trimtab_domain::sysctl::ordered::Ordered;
use trimtab_domain::sysctl::step::Write;
use trimtab_domain::sysctl::value;

use super::Sysctl;
use crate::ports::{FileError, HostFiles, Ledger};
use crate::reconcile::{Error, Subsystem};

impl<F: HostFiles, L: Ledger> Sysctl<F, L> {
    pub(super) fn commit(&self, changes: &[LedgerChange]) -> Result<(), Error> {
        let failed = |error| Error::transient("the ledger does not take the records of the sysctls", error);
        self.ledger.commit(Self::NAME, changes).map_err(failed)
    }

    /// Writes a wish. If the kernel shows another value for it, twice the same after two writes, that value is the
    /// kernel's and not another program's: the ledger keeps it as what this wish comes to.
    pub(super) fn write(&self, write: &Write) -> Result<(), Error> {
        self.put(&write.key, &write.text, &write.wish)?;
        let Some(first) = self.read_back(write)? else { return Ok(()) };
        self.put(&write.key, &write.text, &write.wish)?;
        match self.read_back(write)? {
            Some(second) if second == first => self.accept(write, first),
            // Somebody else writes it right now: the next pass sees.
            _ => Ok(()),
        }
    }

    pub(super) fn give_back(&self, key: &SysctlKey, to: &str) -> Result<(), Error> {
        self.put(key, to, to)
    }

    /// What the key shows if that is not the wish; `None` if it is, or if it is gone.
    fn read_back(&self, write: &Write) -> Result<Option<String>, Error> {
        let failed = |error| Error::transient(format!("cannot read {} after it was written", write.key), error);
        let shown = self.files.read(&write.key.path()).map_err(failed)?.map(|text| value::collapsed(&text));
        Ok(shown.filter(|shown| !value::same(&write.wish, shown)))
    }

    fn accept(&self, write: &Write, read_back: String) -> Result<(), Error> {
        let ordered = Ordered { read_back: Some(read_back), ..Ordered::new(&write.wish) };
        // The ledger keeps the original that it has, which is the one from before the first write.
        let original = Original::Value(write.from.clone());
        let record = Record { object: write.key.to_string(), original, ordered: ordered.to_text() };
        self.commit(&[LedgerChange::Promise(record)])
    }

    fn put(&self, key: &SysctlKey, text: &str, wish: &str) -> Result<(), Error> {
        // write(2) of no bytes never reaches the kernel's parser; a line feed empties a list.
        let text = if text.is_empty() { "\n" } else { text };
        let Err(error) = self.files.write(&key.path(), text) else { return Ok(()) };
        let what = format!("cannot set {key} to {wish:?}");
        match self.rejection(key, wish, &error) {
            Some(rejection) => {
                self.rejections().insert(key.clone(), rejection);
                Err(Error::refused(what, error))
            }
            None => Err(Error::transient(what, error)),
        }
    }

    /// Whether the kernel's answer stands until something else changes.
    fn rejection(&self, key: &SysctlKey, wish: &str, error: &FileError) -> Option<Rejection> {
        let errno = Errno::from_raw(error.source.raw_os_error()?);
        let (cause, remedy) = match errno {
            Errno::EINVAL | Errno::ERANGE | Errno::E2BIG | Errno::EOVERFLOW | Errno::EDOM => {
                (Cause::InvalidValue, "ask for a value that this key takes")
            }
            // The key is there, so it is the value that names something unknown: `tcp_congestion_control = bbr`.
            Errno::ENOENT if matches!(self.files.mode(&key.path()), Ok(Some(_))) => {
                (Cause::InvalidValue, "what the value names is unknown to the kernel; a module may be missing")
            }
            Errno::EPERM | Errno::EACCES | Errno::EROFS => {
                (Cause::NotPermitted, "run the agent as root of the host with a writable /proc/sys")
            }
            Errno::EOPNOTSUPP | Errno::ENOSYS => (Cause::Unsupported, "this kernel cannot do it"),
            _ => return None,
        };
        let detail = format!("the kernel answers {} to {wish:?}; {remedy}", errno.desc());
        Some(Rejection { wish: wish.to_owned(), cause, detail })
    }
}
