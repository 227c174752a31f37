//! The picture in a sentence, and in numbers.

use super::size::Size;
use super::topology::{Topology, Usage};
use super::tree::Machine;

/// How many CPUs have one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The use; `None`: offline.
    pub usage: Option<Usage>,
    /// The CPUs; never 0.
    pub cpus: usize,
}

/// CPUs by use, in the order of legends; uses without CPUs are left out.
#[must_use]
pub fn counts(topology: &Topology) -> Vec<Count> {
    let of = |usage: Usage| topology.cpus.iter().filter(|cpu| cpu.usage == usage).count();
    let online = Usage::ALL.into_iter().map(|usage| Count { usage: Some(usage), cpus: of(usage) });
    let offline = Count { usage: None, cpus: topology.offline_cpus.len() };
    online.chain([offline]).filter(|count| count.cpus > 0).collect()
}

/// The machine and its use, for those who cannot see the picture.
#[must_use]
pub fn summary(topology: &Topology) -> String {
    let machine = Machine::new(topology);
    let numas = machine.sockets.iter().flat_map(|socket| &socket.numas);
    let cores: usize = numas.clone().flat_map(|numa| &numa.caches).map(|cache| cache.cores.len()).sum();
    let mut text = format!(
        "{}, {}, {}, {}",
        plural(machine.sockets.len(), "socket"),
        plural(topology.numa_nodes.len(), "NUMA node"),
        plural(cores, "core"),
        plural(topology.cpus.len(), "CPU"),
    );
    for (index, count) in counts(topology).into_iter().enumerate() {
        text.push_str(if index == 0 { ": " } else { ", " });
        text.push_str(&format!("{} {}", count.cpus, count.usage.map_or("offline", Usage::as_str)));
        if count.usage == Some(Usage::Exclusive) {
            text.push_str(&format!(" to {}", plural(topology.holders.len(), "container")));
        }
    }
    let mispinned = topology.mispinned().count();
    if mispinned > 0 {
        text.push_str(&format!("; {} mispinned", plural(mispinned, "container")));
    }
    let books = topology.numa_nodes.iter().flat_map(|node| &node.memory);
    let books: Vec<_> = books.filter(|kind| kind.memory_type == "memory").filter_map(|kind| kind.book).collect();
    if !books.is_empty() {
        let held = books.iter().map(|book| book.held_bytes).sum();
        let offered = books.iter().map(|book| book.allocatable_bytes).sum();
        text.push_str(&format!("; {} of {} memory held", Size(held), Size(offered)));
    }
    text
}

/// `1 core`, `2 cores`.
fn plural(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}
