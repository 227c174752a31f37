//! The picture for terminals: a line per cache, a character or two per CPU, a bar per kind of memory.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::escape::visible;
use super::size::Size;
use super::summary::{counts, summary};
use super::topology::{Cpu, Topology, Usage, key};
use super::tree::{Cache, Core, Machine};
use crate::reconcile::node_view::MemoryUse;

/// How much is shown of each CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Its mark.
    Marks,
    /// Its number and its mark.
    Numbers,
}

/// Characters of a memory bar.
const BAR: usize = 24;
/// Before the cells of a cache.
const INDENT: &str = "    ";

const HEAD: Style = Style::new().bold();
const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Draws at most `width` columns wide, with escape sequences for colours; a single core is never broken.
#[must_use]
pub fn render(topology: &Topology, width: usize, detail: Detail) -> String {
    let mut text = String::new();
    if topology.cpus.is_empty() {
        let _ = writeln!(text, "{}: the machine has not been read yet", visible(&topology.node));
        return text;
    }
    let _ = writeln!(text, "{HEAD}{}{HEAD:#}: {}", visible(&topology.node), summary(topology));
    if let Some(reason) = &topology.observe_only {
        let _ = writeln!(text, "{DOUBT}observed only{DOUBT:#}: {}", visible(reason));
    }
    let machine = Machine::new(topology);
    for socket in &machine.sockets {
        let _ = writeln!(text, "\n{HEAD}socket {}{HEAD:#}", socket.id);
        for numa in &socket.numas {
            let _ = writeln!(text, "  {HEAD}NUMA node {}{HEAD:#}  CPUs {}", numa.id, numa.cpus());
            for cache in &numa.caches {
                draw_cache(&mut text, topology, cache, (width, detail));
            }
            draw_memory(&mut text, numa.memory);
        }
    }
    for node in &machine.bare {
        let _ = writeln!(text, "\n{HEAD}NUMA node {}{HEAD:#}  no CPUs", node.id);
        draw_memory(&mut text, &node.memory);
    }
    draw_legend(&mut text, topology);
    text
}

fn draw_cache(text: &mut String, topology: &Topology, cache: &Cache<'_>, (width, detail): (usize, Detail)) {
    let head = cache.id.map(|id| format!("L3 {id:<3}")).unwrap_or_default();
    let marks = cache.cores.iter().flat_map(|core| &core.cpus).map(|cpu| topology.mark(cpu).len());
    let mark_width = marks.max().unwrap_or(1);
    let indent = INDENT.len() + head.len() + usize::from(!head.is_empty());
    let (mut column, mut first) = (indent, true);
    let _ = write!(text, "{INDENT}{head}{}", if head.is_empty() { "" } else { " " });
    for core in &cache.cores {
        let (cell, cell_width) = draw_core(topology, core, (mark_width, detail));
        if !first && column + 1 + cell_width > width {
            let _ = write!(text, "\n{:indent$}", "");
            (column, first) = (indent, true);
        }
        if !first {
            text.push(' ');
            column += 1;
        }
        text.push_str(&cell);
        (column, first) = (column + cell_width, false);
    }
    text.push('\n');
}

/// The threads of a core, and how many columns they take.
fn draw_core(topology: &Topology, core: &Core<'_>, (mark_width, detail): (usize, Detail)) -> (String, usize) {
    let mut cell = String::new();
    let mut columns = 0;
    let between = if mark_width > 1 || detail == Detail::Numbers { "/" } else { "" };
    for (index, cpu) in core.cpus.iter().enumerate() {
        if index > 0 {
            cell.push_str(between);
            columns += between.len();
        }
        let number = if detail == Detail::Numbers { format!("{}:", cpu.place.cpu) } else { String::new() };
        let (mark, style) = (topology.mark(cpu), style(cpu));
        let _ = write!(cell, "{number}{style}{mark}{style:#}{:pad$}", "", pad = mark_width - mark.len());
        columns += number.len() + mark_width;
    }
    (cell, columns)
}

/// Holders take turns in colour; the letter tells who it is.
fn style(cpu: &Cpu) -> Style {
    let turns = [AnsiColor::Cyan, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::BrightRed];
    match (cpu.usage, cpu.holders.first()) {
        (_, Some(holder)) => turns.get(holder % turns.len()).map_or(HEAD, |color| color.on_default()).bold(),
        (usage, None) => usage_style(usage),
    }
}

fn usage_style(usage: Usage) -> Style {
    match usage {
        Usage::Exclusive => HEAD,
        Usage::Free => AnsiColor::Green.on_default(),
        Usage::Shared => Style::new(),
        Usage::Reserved => DOUBT,
        Usage::Other => Style::new().dimmed(),
    }
}

/// Kinds of which the node has nothing are left out.
fn draw_memory(text: &mut String, memory: &[MemoryUse]) {
    for kind in memory.iter().filter(|kind| kind.total_bytes > 0) {
        let name = visible(&kind.memory_type);
        let total = Size(kind.total_bytes);
        let _ = match kind.book {
            None => writeln!(text, "{INDENT}{name:<14} {total}"),
            Some(book) => {
                let (held, offered) = (Size(book.held_bytes), Size(book.allocatable_bytes));
                let reserved = Size(book.reserved_bytes);
                let bar = bar([book.reserved_bytes, book.held_bytes, book.allocatable_bytes], kind.total_bytes);
                writeln!(text, "{INDENT}{name:<14} [{bar}] {held} of {offered} held, {reserved} reserved")
            }
        };
    }
}

/// `#` reserved, `=` held, `.` free; blank is what is neither, such as memory in huge pages. What is not nothing shows.
fn bar([reserved, held, offered]: [u64; 3], total: u64) -> String {
    let scale = u128::try_from(BAR).unwrap_or(1);
    let cells = |bytes: u64| {
        let exact = u128::from(bytes) * scale / u128::from(total.max(1));
        usize::try_from(exact).unwrap_or(BAR).max(usize::from(bytes > 0)).min(BAR)
    };
    let (reserved, held, free) = (cells(reserved), cells(held), cells(offered.saturating_sub(held)));
    let mut bar = "#".repeat(reserved) + &"=".repeat(held) + &".".repeat(free);
    bar.truncate(BAR);
    format!("{bar:BAR$}")
}

fn draw_legend(text: &mut String, topology: &Topology) {
    text.push('\n');
    for (index, holder) in topology.holders.iter().enumerate() {
        let name = visible(&holder.path());
        let key = key(index);
        let doubt = if holder.mispinned.is_some() { "!" } else { " " };
        let waits = if holder.waiting { "  waits for its next start" } else { "" };
        let _ = write!(text, "{HEAD}{key:>2}{HEAD:#}{doubt} {name}  {}{waits}", topology.cpus_of(index));
        draw_doubt(text, holder.mispinned.as_deref());
    }
    for usage in counts(topology).into_iter().filter_map(|count| count.usage).filter(|usage| *usage != Usage::Exclusive)
    {
        let (symbol, style) = (usage.symbol(), usage_style(usage));
        let _ = writeln!(text, " {style}{symbol}{style:#}  {}  {}", usage.meaning(), topology.cpus_in(usage));
    }
    if !topology.offline_cpus.is_empty() {
        let offline: trimtab_domain::cpuset::CpuSet = topology.offline_cpus.iter().copied().collect();
        let _ = writeln!(text, "    offline  {offline}");
    }
    if topology.sharing_containers > 0 {
        let _ = writeln!(text, "    containers in the shared pool: {}", topology.sharing_containers);
    }
    for holder in &topology.mispinned_sharing {
        let _ = write!(text, "  ! {}", visible(&holder.path()));
        draw_doubt(text, holder.mispinned.as_deref());
    }
}

/// Why a container does not run as ordered, and the end of its line.
fn draw_doubt(text: &mut String, reason: Option<&str>) {
    if let Some(reason) = reason {
        let _ = write!(text, "  {DOUBT}mispinned{DOUBT:#}: {}", visible(reason));
    }
    text.push('\n');
}
