//! Holds kernel settings that are no sysctls: transparent huge pages, huge pages per NUMA node, modules to load and to
//! block. What to change, and in which order, is decided in the domain.

mod change;
mod observe;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trimtab_domain::kernel::blocklist;
use trimtab_domain::kernel::huge_pages::Pool;
use trimtab_domain::kernel::module::{ModuleName, ModuleState};
use trimtab_domain::kernel::observation::{Observation, PoolShown};
use trimtab_domain::kernel::plan;
use trimtab_domain::kernel::step::{Change, KernelStep, Occasion};
use trimtab_domain::kernel::thp::{Choice, ThpFile};
use trimtab_domain::kernel_file::{Rejection, Shown};
use trimtab_domain::plan::Plan;
use trimtab_domain::record::{LedgerChange, Original};
use trimtab_domain::spec::{KernelSpec, NodeSpec};

use crate::ports::modules::Modules;
use crate::ports::{HostFiles, Ledger, Watch};
use crate::reconcile::report::ObjectReport;
use crate::reconcile::{Error, Step, Subsystem};

/// Kernel settings of the host.
#[derive(Debug)]
pub struct Kernel<F, M, L> {
    files: Arc<F>,
    modules: Arc<M>,
    ledger: Arc<L>,
    /// What the kernel rejected, by object, so that it is not tried again before there is a reason to.
    rejections: Mutex<BTreeMap<String, Rejection>>,
}

impl<F, M, L> Kernel<F, M, L> {
    /// Holds them through these files and this way to load modules, with originals in this ledger.
    pub fn new(files: Arc<F>, modules: Arc<M>, ledger: Arc<L>) -> Self {
        Self { files, modules, ledger, rejections: Mutex::default() }
    }

    fn rejections(&self) -> MutexGuard<'_, BTreeMap<String, Rejection>> {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: HostFiles, M: Modules, L: Ledger> Subsystem for Kernel<F, M, L> {
    const NAME: &'static str = "kernel";
    type Desired = KernelSpec;
    type Observed = Observation;
    type Step = KernelStep;

    fn desired(spec: &NodeSpec) -> &KernelSpec {
        &spec.kernel
    }

    async fn observe(&self, desired: &KernelSpec) -> Result<Observation, Error> {
        let mut seen = observe::observe(&*self.files, desired, self.ledger.records(Self::NAME))?;
        seen.rejections = self.rejections().clone();
        Ok(seen)
    }

    fn plan(desired: &KernelSpec, observed: &Observation) -> Plan<KernelStep> {
        plan::plan(desired, observed)
    }

    async fn apply(&self, step: &KernelStep) -> Result<(), Error> {
        match step.change() {
            Change::Remember(records) => {
                self.commit(&records.iter().cloned().map(LedgerChange::Promise).collect::<Vec<_>>())
            }
            Change::SetThp { file, to, .. } => self.set_thp(*file, to),
            Change::SetPages { pool, to, occasion, .. } => self.set_pages(*pool, *to, *occasion),
            Change::Load(module) => self.load(module).await,
            Change::Unload(module) => self.unload(module).await,
            Change::WriteBlocklist { to, .. } => self.write_blocklist(to),
            Change::RemoveBlocklist => self.remove_blocklist(),
            Change::Forget { object, .. } => {
                if object == blocklist::PATH {
                    let path = Path::new(blocklist::PATH);
                    self.files.discard_unfinished(path).map_err(|error| Error::transient("cannot clean up", error))?;
                }
                self.commit(&[LedgerChange::Forget { object: object.clone() }])
            }
        }
    }

    fn forget_rejections(&self) {
        self.rejections().clear();
    }

    fn objects(desired: &KernelSpec, observed: &Observation) -> Vec<ObjectReport> {
        let thp = [(ThpFile::Enabled, &desired.thp_enabled), (ThpFile::Defrag, &desired.thp_defrag)];
        let thp = thp.into_iter().filter_map(|(file, wish)| Some(thp_object(file, wish.as_ref()?, observed)));
        let pools = desired.huge_pages.iter();
        let pools = pools.map(|(&(page_bytes, node), pages)| pool_object(Pool { page_bytes, node }, *pages, observed));
        let modules = desired.modules_load.iter().filter_map(|name| module_object(name, "loaded", observed));
        let blocked = desired.modules_block.iter().filter_map(|name| module_object(name, "blocked", observed));
        thp.chain(pools).chain(modules).chain(blocked).collect()
    }

    fn watches(desired: &KernelSpec, observed: &Observation) -> Vec<Watch> {
        let thp = [(ThpFile::Enabled, &desired.thp_enabled), (ThpFile::Defrag, &desired.thp_defrag)];
        let thp = thp.into_iter().filter(|(_, wish)| wish.is_some()).map(|(file, _)| file.path().to_owned());
        let present = |pool: &Pool| matches!(observed.pools.get(pool), Some(PoolShown::Value { .. }));
        let pools = desired.huge_pages.keys().map(|&(page_bytes, node)| Pool { page_bytes, node }).filter(present);
        let pools = pools.map(|pool| format!("{}/nr_hugepages", pool.folder()));
        let mut watches: Vec<Watch> = thp.chain(pools).map(|path| Watch::File(path.into())).collect();
        if !desired.modules_block.is_empty() && observed.has_modprobe_d {
            // The directory as well: whoever replaces the file gives it another inode.
            watches.push(Watch::Directory(Path::new(blocklist::DIRECTORY).to_owned()));
            watches.push(Watch::File(Path::new(blocklist::PATH).to_owned()));
        }
        watches
    }

    fn likely_writer(object: &str) -> Option<&'static str> {
        object.starts_with("transparent_hugepage/").then_some("TuneD or a boot script")
    }
}

impl Step for KernelStep {
    fn object(&self) -> Option<&str> {
        self.object()
    }

    fn is_repair(&self) -> bool {
        match self.change() {
            Change::SetThp { occasion, .. } | Change::SetPages { occasion, .. } => *occasion == Occasion::Wish,
            Change::WriteBlocklist { .. } | Change::Load(_) => true,
            Change::Remember(_) | Change::Unload(_) | Change::RemoveBlocklist | Change::Forget { .. } => false,
        }
    }
}

fn thp_object(file: ThpFile, wish: &str, observed: &Observation) -> ObjectReport {
    let text = observed.thp.get(&file).and_then(Shown::text);
    let active = text.map(|text| Choice::parse(text).map_or(text, |choice| choice.active).to_owned());
    let attributes = original_of(file.object(), observed);
    ObjectReport { object: file.object().to_owned(), desired: Some(wish.to_owned()), observed: active, attributes }
}

fn pool_object(pool: Pool, pages: u64, observed: &Observation) -> ObjectReport {
    let object = pool.to_string();
    let mut attributes = original_of(&object, observed);
    let mut shown = None;
    if let Some(PoolShown::Value { counts, .. }) = observed.pools.get(&pool) {
        shown = Some(counts.ordered().to_string());
        attributes.push(("in use", counts.in_use().to_string()));
        attributes.push(("surplus", counts.surplus.to_string()));
    }
    ObjectReport { object, desired: Some(pages.to_string()), observed: shown, attributes }
}

fn module_object(name: &str, desired: &str, observed: &Observation) -> Option<ObjectReport> {
    let module = ModuleName::parse(name).ok()?;
    let state = observed.modules.get(&module);
    let blocks = observed.blocklist.as_deref().map(blocklist::blocked).unwrap_or_default();
    let shown = match state {
        Some(ModuleState::BuiltIn) => "built in",
        Some(ModuleState::Loaded { .. }) => "loaded",
        _ if blocks.contains(&module.as_str()) => "blocked",
        _ => "not loaded",
    };
    let attributes = original_of(&module.object(), observed);
    let (object, desired) = (module.object(), Some(desired.to_owned()));
    Some(ObjectReport { object, desired, observed: Some(shown.to_owned()), attributes })
}

fn original_of(object: &str, observed: &Observation) -> Vec<(&'static str, String)> {
    let record = observed.records.iter().find(|record| record.object == object);
    match record.map(|record| &record.original) {
        Some(Original::Value(value)) => vec![("original", value.clone())],
        Some(Original::Absent) => vec![("original", "absent".to_owned())],
        Some(Original::Unknown) | None => Vec::new(),
    }
}
