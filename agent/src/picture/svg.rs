//! The picture as SVG: a file of its own, or the part of a page that brings the style sheet and the legend.

use std::fmt::Write as _;

use super::escape::{Xml, visible};
use super::layout::{Area, What, layout};
use super::size::Size;
use super::summary::summary;
use super::topology::{Cpu, Topology};
use crate::reconcile::node_view::MemoryUse;

mod legend;

/// Style sheet of the image, for light and dark.
pub const STYLE: &str = include_str!("svg/map.css");

/// Narrowest image of its own: room for the legend.
const MIN_WIDTH: u32 = 560;

/// How many colours holders take turns in; the style sheet has a class for each.
pub const HUES: usize = 8;

/// Width of an average character in relation to its height; generous, so that what is said to fit does.
const CHARACTER: f64 = 0.55;

/// The image as a file of its own, with its style and its legend.
#[must_use]
pub fn document(topology: &Topology) -> String {
    let root = layout(topology);
    let width = root.width.max(MIN_WIDTH);
    let title = format!("{}: {}", topology.node, summary(topology));
    let lines = lines(&title, width, 13);
    let head = lines.iter().fold(14, |head, _| head + 18);
    let legend = legend::legend(topology, head + root.height + 24, width);
    let height = legend.bottom + 8;
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-8 0 {w} {height}\" width=\"{w}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"map-title\" class=\"map document\">\n<title id=\"map-title\">{}</title>\n\
         <style>{STYLE}</style>\n{PATTERN}<rect class=\"paper\" x=\"-8\" width=\"{w}\" height=\"{height}\"/>\n\
         <text class=\"head\">",
        Xml(&title),
        w = width + 16,
    );
    for (line, y) in lines.iter().zip((20..).step_by(18)) {
        let _ = write!(out, "<tspan x=\"0\" y=\"{y}\">{}</tspan>", Xml(line));
    }
    let _ = write!(out, "</text>\n<g transform=\"translate(0 {head})\">\n");
    draw(&mut out, topology, &root);
    let _ = write!(out, "</g>\n{}</svg>\n", legend.text);
    out
}

/// The image as part of a page that has [`STYLE`]; `label` names it for those who cannot see it.
#[must_use]
pub fn inline(topology: &Topology, label: &str) -> String {
    let root = layout(topology);
    let (width, height) = (root.width, root.height);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" class=\"map\" \
         aria-label=\"{}\">\n{PATTERN}",
        Xml(label)
    );
    draw(&mut out, topology, &root);
    out.push_str("</svg>\n");
    out
}

/// Reserved CPUs are hatched, so that they can be told from others without colours.
const PATTERN: &str = "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
                       patternTransform=\"rotate(45)\"><rect class=\"hatch-ground\" width=\"6\" height=\"6\"/>\
                       <rect class=\"hatch-line\" width=\"2\" height=\"6\"/></pattern></defs>\n";

fn draw(out: &mut String, topology: &Topology, area: &Area<'_>) {
    let (name, label) = match &area.what {
        What::Root => ("machine", String::new()),
        What::Socket(id) => ("socket", format!("Socket {id}")),
        What::Numa(id, cpus) => ("numa", format!("NUMA node {id} · CPUs {cpus}")),
        What::BareNuma(id) => ("numa", format!("NUMA node {id} · no CPUs")),
        What::Cache(Some(id), cpus) => ("cache", format!("L3 {id} · {cpus}")),
        What::Cache(None, cpus) => ("cache", format!("CPUs {cpus}")),
        What::Offline => ("offline-cpus", "Offline".to_owned()),
        What::Core => ("core", String::new()),
        What::Cpu(cpu) => return draw_cpu(out, topology, area, cpu),
        What::OfflineCpu(cpu) => return draw_offline(out, area, *cpu),
        What::Memory(kind) => return draw_memory(out, area, kind),
    };
    let _ = write!(out, "<g class=\"{name}\">");
    if !matches!(area.what, What::Root) {
        frame(out, area, "frame");
    }
    if !label.is_empty() {
        let _ = write!(out, "<text class=\"label\" x=\"{}\" y=\"{}\">", area.x + 8, area.y + 17);
        let _ = write!(out, "{}</text>", Xml(fit(&label, area.width.saturating_sub(12), 11)));
    }
    for child in &area.children {
        draw(out, topology, child);
    }
    out.push_str("</g>\n");
}

fn frame(out: &mut String, area: &Area<'_>, class: &str) {
    let Area { x, y, width, height, .. } = area;
    let _ = write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\"/>");
}

/// The number above, the mark below; the whole in the tooltip.
fn draw_cpu(out: &mut String, topology: &Topology, area: &Area<'_>, cpu: &Cpu) {
    let hue = cpu.holders.first().map(|holder| format!(" k{}", holder % HUES)).unwrap_or_default();
    let holders = cpu.holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let place = cpu.place;
    let cache = place.uncore_cache.map(|id| format!("L3 {id}, ")).unwrap_or_default();
    let title = format!(
        "CPU {}: {} (core {}, {cache}NUMA node {}, socket {})",
        place.cpu,
        topology.describe(cpu),
        place.core,
        place.numa_node,
        place.socket
    );
    let (usage, doubt) = (cpu.usage.as_str(), if topology.is_mispinned(cpu) { " mispinned" } else { "" });
    let _ = write!(out, "<g class=\"cpu {usage}{hue}{doubt}\" data-h=\"{holders}\"><title>{}</title>", Xml(&title));
    cell(out, area, (&place.cpu.to_string(), &topology.mark(cpu).replace('.', "·")));
    out.push_str("</g>");
}

fn draw_offline(out: &mut String, area: &Area<'_>, cpu: u32) {
    let _ = write!(out, "<g class=\"cpu off\"><title>CPU {cpu}: offline</title>");
    cell(out, area, (&cpu.to_string(), "×"));
    out.push_str("</g>");
}

fn cell(out: &mut String, area: &Area<'_>, (number, mark): (&str, &str)) {
    let Area { x, y, width, .. } = area;
    let (side, middle) = (width - 2, x + width / 2);
    let (upper, lower) = (y + width * 2 / 5 + 1, y + width * 5 / 6 + 1);
    let size = if mark.len() > 2 { width * 3 / 10 } else { width * 2 / 5 };
    let _ = write!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"{side}\" height=\"{side}\" rx=\"2\"/>\
         <text class=\"n\" x=\"{middle}\" y=\"{upper}\" font-size=\"{}\">{number}</text>\
         <text class=\"m\" x=\"{middle}\" y=\"{lower}\" font-size=\"{size}\">{}</text>",
        x + 1,
        y + 1,
        width * 3 / 8,
        Xml(mark)
    );
}

fn draw_memory(out: &mut String, area: &Area<'_>, kind: &MemoryUse) {
    let (name, total) = (&kind.memory_type, Size(kind.total_bytes));
    let words = match kind.book {
        None => format!("{name}: {total}"),
        Some(book) => format!("{name}: {} of {} held", Size(book.held_bytes), Size(book.allocatable_bytes)),
    };
    let more = match kind.book {
        None => String::new(),
        Some(book) => format!(", {} reserved, {total} in all", Size(book.reserved_bytes)),
    };
    let _ = write!(out, "<g class=\"memory\"><title>{}{}</title>", Xml(&words), Xml(&more));
    let text = fit(&words, area.width, 11);
    let _ = write!(out, "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>", area.x, area.y + 13, Xml(text));
    let mut x = area.x;
    let y = area.y + 19;
    let mut part = |class: &str, x: u32, width: u32| {
        let _ = write!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"9\"/>");
    };
    part("ground", x, area.width);
    if let Some(book) = kind.book {
        let free = book.allocatable_bytes.saturating_sub(book.held_bytes);
        for (class, bytes) in [("kept", book.reserved_bytes), ("held", book.held_bytes), ("open", free)] {
            let width = share(bytes, kind.total_bytes, area.width).min((area.x + area.width).saturating_sub(x));
            part(class, x, width);
            x += width;
        }
    }
    out.push_str("</g>");
}

/// Part of a length, rounded down; what is not nothing shows.
fn share(part: u64, whole: u64, length: u32) -> u32 {
    let exact = u128::from(part) * u128::from(length) / u128::from(whole.max(1));
    u32::try_from(exact).unwrap_or(length).max(u32::from(part > 0) * 2).min(length)
}

/// A text in lines that fit a width; a word that does not is cut.
fn lines(text: &str, width: u32, font: u32) -> Vec<String> {
    let text = visible(text);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if fit(&longer, width, font) == longer {
            *line = longer;
        } else {
            lines.push(fit(word, width, font));
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// As much of a text as fits into a width in pixels at a size of the font.
fn fit(text: &str, width: u32, font: u32) -> String {
    let text = visible(text);
    let per = f64::from(font) * CHARACTER;
    // Sums instead of a division, whose result would have to be turned into a number of characters.
    let mut used = 0.0;
    let room = f64::from(width);
    if text.chars().fold(0.0, |sum, _| sum + per) <= room {
        return text;
    }
    let kept = text.chars().take_while(|_| {
        used += per;
        used + per <= room
    });
    kept.collect::<String>() + "…"
}
