//! Reads everything that a plan over the kernel settings is made from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trimtab_domain::kernel::blocklist;
use trimtab_domain::kernel::huge_pages::{Counts, Pool, free_bytes};
use trimtab_domain::kernel::module::{ModuleName, ModuleState, is_alias, is_listed};
use trimtab_domain::kernel::observation::{Observation, PoolShown};
use trimtab_domain::kernel::thp::ThpFile;
use trimtab_domain::kernel_file::Shown;
use trimtab_domain::record::Record;
use trimtab_domain::spec::KernelSpec;

use crate::ports::HostFiles;
use crate::ports::shown::read_shown;
use crate::reconcile::Error;

const NODES: &str = "/sys/devices/system/node";
const ALL_POOLS: &str = "/sys/kernel/mm/hugepages";

/// Reads what is wished for and what is recorded.
pub(super) fn observe<F: HostFiles>(
    files: &F,
    desired: &KernelSpec,
    records: Vec<Record>,
) -> Result<Observation, Error> {
    let mut seen = Observation::default();
    let recorded = |object: &str| records.iter().any(|record| record.object == object);
    for (file, wish) in [(ThpFile::Enabled, &desired.thp_enabled), (ThpFile::Defrag, &desired.thp_defrag)] {
        if wish.is_some() || recorded(file.object()) {
            seen.thp.insert(file, read_shown(files, Path::new(file.path())));
        }
    }
    let wished = desired.huge_pages.keys().map(|&(page_bytes, node)| Pool { page_bytes, node });
    let pools: BTreeSet<Pool> = wished.chain(records.iter().filter_map(|record| Pool::parse(&record.object))).collect();
    if !pools.is_empty() {
        seen.numa_nodes = numbered(files, NODES, "node", "")?;
        let has_numa = !seen.numa_nodes.is_empty();
        if !has_numa {
            seen.numa_nodes.push(0);
        }
        let sizes: Vec<u64> = numbered(files, ALL_POOLS, "hugepages-", "kB")?;
        seen.page_sizes = sizes.into_iter().map(|kib| kib * 1024).collect();
        seen.pools = pools.into_iter().map(|pool| (pool, read_pool(files, pool, has_numa))).collect();
    }
    read_modules(files, desired, &records, &mut seen)?;
    seen.blocklist = files.read(Path::new(blocklist::PATH)).map_err(cannot("read the module blocklist"))?;
    if !desired.modules_block.is_empty() {
        let directory = files.list(Path::new(blocklist::DIRECTORY)).map_err(cannot("look for the module blocklist"))?;
        seen.has_modprobe_d = directory.is_some();
    }
    seen.records = records;
    Ok(seen)
}

fn cannot(what: &'static str) -> impl Fn(crate::ports::FileError) -> Error {
    move |error| Error::transient(format!("cannot {what}"), error)
}

fn read_pool<F: HostFiles>(files: &F, pool: Pool, has_numa: bool) -> PoolShown {
    let folder = PathBuf::from(folder(pool, has_numa));
    let text = |name: &str| read_shown(files, &folder.join(name));
    let (total, free, surplus) = (text("nr_hugepages"), text("free_hugepages"), text("surplus_hugepages"));
    let Shown::Value(total, access) = total else {
        return match total {
            Shown::Unreadable(why) => PoolShown::Unreadable(why),
            _ => PoolShown::Absent,
        };
    };
    match Counts::parse(&total, free.text().unwrap_or_default(), surplus.text().unwrap_or_default()) {
        Ok(counts) => {
            let meminfo = files.read(&Path::new(NODES).join(format!("node{}/meminfo", pool.node)));
            let free_bytes = meminfo.ok().flatten().and_then(|text| free_bytes(&text));
            PoolShown::Value { counts, access, free_bytes }
        }
        Err(error) => PoolShown::Unreadable(error.to_string()),
    }
}

/// The number of pages that stands ordered; `None`: it cannot be read.
pub(super) fn ordered_pages<F: HostFiles>(files: &F, pool: Pool, has_numa: bool) -> Option<u64> {
    match read_pool(files, pool, has_numa) {
        PoolShown::Value { counts, .. } => Some(counts.ordered()),
        PoolShown::Absent | PoolShown::Unreadable(_) => None,
    }
}

/// The folder of a pool on this machine.
pub(super) fn folder(pool: Pool, has_numa: bool) -> String {
    if has_numa { pool.folder() } else { pool.folder_without_numa() }
}

/// The numbers in the names of a directory's entries, ascending: `node0`, `hugepages-2048kB`.
fn numbered<T: std::str::FromStr + Ord, F: HostFiles>(
    files: &F,
    directory: &str,
    before: &str,
    after: &str,
) -> Result<Vec<T>, Error> {
    let entries = files.list(Path::new(directory)).map_err(cannot("look for huge pages"))?.unwrap_or_default();
    let number = |name: &str| name.strip_prefix(before)?.strip_suffix(after)?.parse().ok();
    let mut numbers: Vec<T> = entries.iter().filter_map(|entry| number(&entry.name)).collect();
    numbers.sort();
    Ok(numbers)
}

fn read_modules<F: HostFiles>(
    files: &F,
    desired: &KernelSpec,
    records: &[Record],
    seen: &mut Observation,
) -> Result<(), Error> {
    let wished =
        desired.modules_load.iter().chain(&desired.modules_block).filter_map(|name| ModuleName::parse(name).ok());
    let recorded = records.iter().filter_map(|record| ModuleName::of_object(&record.object));
    let names: BTreeSet<ModuleName> = wished.chain(recorded).collect();
    if names.is_empty() {
        return Ok(());
    }
    // fs/proc: the file exists exactly if the kernel was built with CONFIG_MODULES.
    seen.loadable = files.mode(Path::new("/proc/modules")).map_err(cannot("look for modules"))?.is_some();
    let tree = ModuleTree::new(files);
    for name in names {
        let state = match read_loaded(files, &name)? {
            Some(state) => state,
            None => tree.state(&name),
        };
        seen.modules.insert(name, state);
    }
    Ok(())
}

/// The state of a module that the running kernel shows below `/sys/module`; `None`: it shows none. A part of the kernel
/// itself is there only if it has parameters, and has no `initstate` (Documentation/ABI/testing/sysfs-module).
fn read_loaded<F: HostFiles>(files: &F, name: &ModuleName) -> Result<Option<ModuleState>, Error> {
    let folder = Path::new("/sys/module").join(name.as_str());
    let failed = cannot("look at a module");
    if files.list(&folder).map_err(&failed)?.is_none() {
        return Ok(None);
    }
    if files.read(&folder.join("initstate")).map_err(&failed)?.is_none() {
        return Ok(Some(ModuleState::BuiltIn));
    }
    let users = files.read(&folder.join("refcnt")).map_err(&failed)?.and_then(|text| text.trim().parse().ok());
    let holders = files.list(&folder.join("holders")).map_err(&failed)?.unwrap_or_default();
    Ok(Some(ModuleState::Loaded { users, holders: holders.into_iter().map(|entry| entry.name).collect() }))
}

/// What the host's module tree lists, each file read at most once and only if it is asked for.
struct ModuleTree<'a, F> {
    files: &'a F,
    folder: Option<PathBuf>,
}

impl<'a, F: HostFiles> ModuleTree<'a, F> {
    fn new(files: &'a F) -> Self {
        let release = files.read(Path::new("/proc/sys/kernel/osrelease")).ok().flatten();
        // The text becomes part of a path: one plain name, or nothing.
        let release = release.map(|text| text.trim().to_owned());
        let release = release.filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
        Self { files, folder: release.map(|release| Path::new("/lib/modules").join(release)) }
    }

    fn state(&self, name: &ModuleName) -> ModuleState {
        let Some(folder) = &self.folder else { return ModuleState::Unknown };
        let list = |file: &str| self.files.read(&folder.join(file));
        match (list("modules.builtin"), list("modules.dep"), list("modules.alias")) {
            (Ok(Some(built_in)), ..) if is_listed(&built_in, name) => ModuleState::BuiltIn,
            (_, Ok(Some(files)), _) if is_listed(&files, name) => ModuleState::InTree,
            (_, _, Ok(Some(aliases))) if is_alias(&aliases, name) => ModuleState::InTree,
            // Larger than is read, or not readable: modprobe knows.
            (_, Err(_), _) | (.., Err(_)) => ModuleState::Unknown,
            _ => ModuleState::Missing,
        }
    }
}
