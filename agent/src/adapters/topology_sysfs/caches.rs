//! The uncore cache of each core, as cadvisor finds it (`lib/sysinfo`).

use std::collections::BTreeMap;
use std::path::Path;

use trimtab_domain::topology::CpuInfo;

use super::cpu_path;
use crate::ports::HostFiles;

/// Caches of this level and below belong to a core.
const CORE_LEVEL: u32 = 2;

/// Fills in the cache of every CPU of one NUMA node. The first thread of a core speaks for all of it. A file that cannot
/// be read ends it: the cores that come after have no cache.
pub(super) fn fill(files: &dyn HostFiles, node: &mut [CpuInfo]) {
    let mut cores = BTreeMap::<(u32, u32), Vec<usize>>::new();
    let mut order = Vec::new();
    for (index, info) in node.iter().enumerate() {
        let threads = cores.entry((info.core, info.socket)).or_default();
        if threads.is_empty() {
            order.push((info.core, info.socket));
        }
        threads.push(index);
    }
    let number_of_cores = cores.len();
    for core in order {
        let Some(threads) = cores.get(&core) else { continue };
        let Some(first) = threads.first().and_then(|index| node.get(*index)) else { continue };
        let whole_node = number_of_cores * threads.len();
        let Some(uncore) = uncore_of(files, first.cpu, whole_node) else { return };
        for index in threads {
            if let Some(info) = node.get_mut(*index) {
                info.uncore_cache = uncore;
            }
        }
    }
}

/// The first cache above the core's own that is not shared by exactly the whole node. Outer `None`: unreadable.
fn uncore_of(files: &dyn HostFiles, cpu: u32, whole_node: usize) -> Option<Option<u32>> {
    let directory = cpu_path(cpu).join("cache");
    let entries = files.list(&directory).ok()?.unwrap_or_default();
    let mut found = None;
    for entry in entries.iter().filter(|entry| entry.name.starts_with("index")) {
        let cache = directory.join(&entry.name);
        let id: u32 = text(files, &cache, "id")?.parse().ok()?;
        text(files, &cache, "size")?;
        let level: u32 = text(files, &cache, "level")?.parse().ok()?;
        text(files, &cache, "type")?;
        let sharing = count_bits(&text(files, &cache, "shared_cpu_map")?)?;
        if level > CORE_LEVEL && sharing != whole_node && found.is_none() {
            found = Some(id);
        }
    }
    Some(found)
}

fn text(files: &dyn HostFiles, cache: &Path, file: &str) -> Option<String> {
    files.read(&cache.join(file)).ok().flatten().map(|text| text.trim().to_owned())
}

/// Bits of a map such as `00000000,00000003`.
fn count_bits(map: &str) -> Option<usize> {
    map.chars().filter(|c| *c != ',').map(|c| c.to_digit(16).map(|digit| digit.count_ones() as usize)).sum()
}
