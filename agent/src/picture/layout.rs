//! Where everything of the image goes: boxes in boxes, each arranged in the grid that is nearest to a landscape shape.

use super::topology::{Cpu, Topology};
use super::tree::{Cache, Machine, Numa, Socket};
use crate::reconcile::node_view::MemoryUse;

/// Widest image in pixels: a page on a small laptop; 512 CPUs on four NUMA nodes fit it, two nodes beside each other.
const MAX_WIDTH: u32 = 1240;
/// Between a box and what is in it, and between boxes.
const PAD: u32 = 8;
/// Height of a label.
const LABEL: u32 = 18;
/// Height of a memory bar with its label.
const BAR: u32 = 32;
/// Narrowest box that has a memory bar.
const BAR_WIDTH: u32 = 216;
/// Between the threads of a core and its frame.
const CORE_PAD: u32 = 2;

/// What a box stands for.
#[derive(Debug)]
pub(super) enum What<'a> {
    Root,
    Socket(u32),
    /// A NUMA node and its CPUs.
    Numa(u32, String),
    /// A last-level cache and its CPUs.
    Cache(Option<u32>, String),
    Core,
    Cpu(&'a Cpu),
    Memory(&'a MemoryUse),
    /// A NUMA node without CPUs.
    BareNuma(u32),
    /// The CPUs that are offline.
    Offline,
    OfflineCpu(u32),
}

/// A box; all numbers in pixels from the upper left corner of the image.
#[derive(Debug)]
pub(super) struct Area<'a> {
    pub(super) what: What<'a>,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) children: Vec<Area<'a>>,
}

/// Arranges the machine.
pub(super) fn layout(topology: &Topology) -> Area<'_> {
    let cell = cell_size(topology.cpus.len());
    let machine = Machine::new(topology);
    let inner = MAX_WIDTH - 2 * PAD;
    let mut parts: Vec<Area<'_>> = machine.sockets.iter().map(|part| socket(part, cell, inner)).collect();
    parts.extend(machine.bare.iter().map(|node| {
        let bars = node.memory.iter().map(|kind| leaf(What::Memory(kind), BAR_WIDTH, BAR)).collect();
        boxed(What::BareNuma(node.id), stack(bars), BAR_WIDTH)
    }));
    let (mut parts, mut width, mut height) = pack(parts, 2 * PAD, MAX_WIDTH);
    if !topology.offline_cpus.is_empty() {
        let cells = topology.offline_cpus.iter().map(|cpu| leaf(What::OfflineCpu(*cpu), cell, cell)).collect();
        let mut strip = boxed(What::Offline, wrap(cells, CORE_PAD * 2, MAX_WIDTH - 2 * PAD), width - 2 * PAD);
        strip.y = height + 2 * PAD;
        (width, height) = (width.max(strip.width), strip.y + strip.height);
        parts.push(strip);
    }
    let mut root = Area { what: What::Root, x: 0, y: 0, width, height, children: parts };
    root.move_children();
    root
}

/// Side of the square of a CPU: as large as fits a page.
const fn cell_size(cpus: usize) -> u32 {
    match cpus {
        0..=32 => 36,
        33..=128 => 30,
        _ => 24,
    }
}

impl Area<'_> {
    /// From places within the parent to places in the image.
    fn move_children(&mut self) {
        for child in &mut self.children {
            child.x += self.x;
            child.y += self.y;
            child.move_children();
        }
    }
}

/// Boxes with their places, and the width and height of all.
type Packed<'a> = (Vec<Area<'a>>, u32, u32);

fn socket<'a>(socket: &Socket<'a>, cell: u32, width: u32) -> Area<'a> {
    let inner = width - 2 * PAD;
    let numas = socket.numas.iter().map(|part| numa(part, cell, inner)).collect();
    boxed(What::Socket(socket.id), pack(numas, PAD, inner), 0)
}

fn numa<'a>(numa: &Numa<'a>, cell: u32, width: u32) -> Area<'a> {
    let inner = width - 2 * PAD;
    let caches = numa.caches.iter().map(|part| cache(part, cell, inner)).collect();
    let (mut parts, cpu_width, mut height) = pack(caches, PAD, inner);
    let width = if numa.memory.is_empty() { cpu_width } else { cpu_width.max(BAR_WIDTH) };
    for kind in numa.memory {
        let mut bar = leaf(What::Memory(kind), width, BAR);
        bar.y = height + PAD / 2;
        height = bar.y + BAR;
        parts.push(bar);
    }
    boxed(What::Numa(numa.id, numa.cpus().to_string()), (parts, width, height), 0)
}

fn cache<'a>(cache: &Cache<'a>, cell: u32, width: u32) -> Area<'a> {
    let cores = cache.cores.iter().map(|core| {
        let threads: Vec<Area<'_>> = core.cpus.iter().map(|cpu| leaf(What::Cpu(cpu), cell, cell)).collect();
        let (mut threads, width, height) = stack(threads);
        for thread in &mut threads {
            (thread.x, thread.y) = (CORE_PAD, thread.y + CORE_PAD);
        }
        let (width, height) = (width + 2 * CORE_PAD, height + 2 * CORE_PAD);
        Area { what: What::Core, x: 0, y: 0, width, height, children: threads }
    });
    let packed = pack(cores.collect(), CORE_PAD * 2, width - 2 * PAD);
    boxed(What::Cache(cache.id, cache.cpus().to_string()), packed, 64)
}

fn leaf(what: What<'_>, width: u32, height: u32) -> Area<'_> {
    Area { what, x: 0, y: 0, width, height, children: Vec::new() }
}

/// A frame with a label around boxes.
fn boxed<'a>(what: What<'a>, (mut children, width, height): Packed<'a>, min_width: u32) -> Area<'a> {
    for child in &mut children {
        child.x += PAD;
        child.y += LABEL + PAD / 2;
    }
    let (width, height) = (width.max(min_width) + 2 * PAD, height + LABEL + PAD / 2 + PAD);
    Area { what, x: 0, y: 0, width, height, children }
}

/// One above the other.
fn stack(mut parts: Vec<Area<'_>>) -> Packed<'_> {
    let (mut width, mut height) = (0, 0);
    for part in &mut parts {
        part.y = height;
        height += part.height;
        width = width.max(part.width);
    }
    (parts, width, height)
}

/// In lines, each as long as fits.
fn wrap(parts: Vec<Area<'_>>, gap: u32, max_width: u32) -> Packed<'_> {
    let widest = parts.iter().map(|part| part.width + gap).max().unwrap_or(1);
    let columns = usize::try_from(max_width / widest.max(1)).unwrap_or(1).clamp(1, parts.len().max(1));
    grid(parts, columns, gap)
}

/// In a grid whose shape is the best of those that fit the width.
fn pack(parts: Vec<Area<'_>>, gap: u32, max_width: u32) -> Packed<'_> {
    let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    let widest = f64::from(parts.iter().map(|part| part.width).max().unwrap_or(0) + gap);
    let highest = f64::from(parts.iter().map(|part| part.height).max().unwrap_or(0) + gap);
    let badness = |columns: &usize| {
        let rows = parts.len().div_ceil(*columns);
        let (width, height) = (widest * number(*columns), highest * number(rows));
        let holes = number(rows * columns - parts.len()) / number(parts.len());
        // Twice as wide as high is best; an incomplete last line is disturbing.
        (width / height / 2.0).ln().abs() + 2.0 * holes
    };
    let fits = |columns: &usize| *columns == 1 || widest * number(*columns) <= f64::from(max_width + gap);
    let columns = (1..=parts.len()).take_while(fits).min_by(|a, b| badness(a).total_cmp(&badness(b))).unwrap_or(1);
    grid(parts, columns, gap)
}

/// In a grid; each column is as wide as its widest box, each row as high as its highest.
fn grid(mut parts: Vec<Area<'_>>, columns: usize, gap: u32) -> Packed<'_> {
    let mut widths = vec![0; columns];
    for (index, part) in parts.iter().enumerate() {
        if let Some(width) = widths.get_mut(index % columns) {
            *width = part.width.max(*width);
        }
    }
    let mut y = 0;
    for row in parts.chunks_mut(columns) {
        let height = row.iter().map(|part| part.height).max().unwrap_or(0);
        let mut x = 0;
        for (part, width) in row.iter_mut().zip(&widths) {
            (part.x, part.y) = (x, y);
            // Frames of one row end together; what they hold stays where it is.
            if !part.children.is_empty() {
                part.height = height;
            }
            x += width + gap;
        }
        y += height + gap;
    }
    let width = widths.iter().sum::<u32>() + gap * u32::try_from(columns.saturating_sub(1)).unwrap_or(0);
    (parts, width, y.saturating_sub(gap))
}

#[cfg(test)]
mod tests;
