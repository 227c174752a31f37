//! The map, and the same facts as tables for those who cannot see it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use trimtab_domain::cpuset::CpuSet;

use super::{MAX_ENTRIES, left_out};
use crate::picture::{Cache, Holder, Machine, Size, Topology, Usage, Xml, counts, key, summary, svg};
use crate::reconcile::node_view::MemoryUse;

pub(super) fn section(out: &mut String, topology: &Topology) {
    out.push_str("<section id=\"machine\" aria-labelledby=\"machine-head\">\n<h2 id=\"machine-head\">Machine</h2>\n");
    if topology.cpus.is_empty() {
        out.push_str("<p>It has not been read yet.</p>\n</section>\n");
        return;
    }
    let summary = summary(topology);
    let _ = writeln!(out, "<p>{}.</p>", Xml(&summary));
    if let Some(reason) = &topology.observe_only {
        let _ = writeln!(out, "<p><span class=\"chip doubt\">observed only</span> {}</p>", Xml(reason));
    }
    let label = format!("Map of the CPUs. {summary}. The tables below say the same.");
    let _ = write!(
        out,
        "<div id=\"map\" class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Map of the CPUs\">\n{}</div>\n\
         <p id=\"readout\" role=\"status\"></p>\n",
        svg::inline(topology, &label)
    );
    legend(out, topology);
    holders(out, topology);
    memory(out, topology);
    places(out, topology);
    out.push_str("</section>\n");
}

/// A small picture of a CPU as the map shows it.
fn swatch(class: &str, mark: &str) -> String {
    format!(
        "<svg class=\"map swatch\" width=\"30\" height=\"18\" aria-hidden=\"true\"><g class=\"cpu {class}\">\
         <rect x=\"1\" y=\"1\" width=\"28\" height=\"16\" rx=\"2\"/><text class=\"m\" x=\"15\" y=\"13\" font-size=\"11\">\
         {mark}</text></g></svg>"
    )
}

fn legend(out: &mut String, topology: &Topology) {
    out.push_str("<ul class=\"legend\" aria-label=\"What the map shows\">\n");
    for count in counts(topology) {
        let (class, mark, meaning, cpus) = match count.usage {
            Some(Usage::Exclusive) => ("exclusive k0", "A".to_owned(), "held by one container", None),
            Some(usage) => (
                usage.as_str(),
                usage.symbol().to_string().replace('.', "·"),
                usage.meaning(),
                Some(topology.cpus_in(usage)),
            ),
            None => ("off", "×".to_owned(), "offline", Some(topology.offline_cpus.iter().copied().collect())),
        };
        let cpus = cpus.map(|cpus: CpuSet| format!(": {cpus}")).unwrap_or_default();
        let _ = writeln!(out, "<li>{} {meaning} ({}{cpus})</li>", swatch(class, &mark), count.cpus);
    }
    if topology.holders.iter().any(|holder| holder.mispinned.is_some()) {
        let _ = writeln!(out, "<li>{} does not run as ordered</li>", swatch("exclusive k0 mispinned", "A!"));
    }
    out.push_str("</ul>\n");
}

fn holders(out: &mut String, topology: &Topology) {
    if topology.holders.is_empty() {
        out.push_str("<p>No container holds CPUs of its own.</p>\n");
    } else {
        out.push_str(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"holders\">\n<table>\n\
             <caption id=\"holders\">Who holds CPUs</caption>\n<thead><tr><th scope=\"col\">Mark</th>\
             <th scope=\"col\">Namespace</th><th scope=\"col\">Pod</th><th scope=\"col\">Container</th>\
             <th scope=\"col\">CPUs</th><th scope=\"col\">NUMA nodes</th><th scope=\"col\">Runs as ordered</th></tr></thead>\n\
             <tbody>\n",
        );
        for (index, holder) in topology.holders.iter().enumerate() {
            let (doubt, mark) = if holder.mispinned.is_some() { (" mispinned", "!") } else { ("", "") };
            let class = format!("exclusive k{}{doubt}", index % svg::HUES);
            let held = topology.cpus.iter().filter(|cpu| cpu.holders.contains(&index));
            let nodes: CpuSet = held.map(|cpu| cpu.place.numa_node).collect();
            let _ = writeln!(
                out,
                "<tr data-h=\"{index}\"><td class=\"mark\">{}<span class=\"unseen\">{}</span></td><td><bdi>{}</bdi></td>\
                 <td><bdi>{}</bdi></td><th scope=\"row\"><bdi>{}</bdi></th><td class=\"cpus\">{}</td><td>{nodes}</td><td>{}</td></tr>",
                swatch(&class, &(key(index) + mark)),
                key(index),
                Xml(&holder.namespace),
                Xml(&holder.pod),
                Xml(&holder.container),
                topology.cpus_of(index),
                ordered(holder),
            );
        }
        out.push_str("</tbody>\n</table>\n</div>\n");
    }
    let _ = writeln!(out, "<p>Containers in the shared pool: {}.</p>", topology.sharing_containers);
    if topology.mispinned_sharing.is_empty() {
        return;
    }
    out.push_str("<ul class=\"concerns\" aria-label=\"Containers of the shared pool that do not run as ordered\">\n");
    for holder in topology.mispinned_sharing.iter().take(MAX_ENTRIES) {
        let _ = writeln!(out, "<li><bdi class=\"name\">{}</bdi>: {}</li>", Xml(holder.path()), ordered(holder));
    }
    if let Some(more) = left_out(topology.mispinned_sharing.len()) {
        let _ = writeln!(out, "<li>{more}</li>");
    }
    out.push_str("</ul>\n");
}

/// Whether a container runs as ordered, and why not.
fn ordered(holder: &Holder) -> String {
    holder.mispinned.as_ref().map_or_else(
        || if holder.waiting { "waits for its next start" } else { "yes" }.to_owned(),
        |reason| format!("<span class=\"chip bad\">mispinned</span> <bdi>{}</bdi>", Xml(reason)),
    )
}

fn memory(out: &mut String, topology: &Topology) {
    out.push_str(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"memory\">\n<table>\n\
         <caption id=\"memory\">Memory by NUMA node</caption>\n<thead><tr><th scope=\"col\">NUMA node</th>\
         <th scope=\"col\">Type</th><th scope=\"col\" class=\"number\">Held</th><th scope=\"col\" class=\"number\">Free</th>\
         <th scope=\"col\" class=\"number\">Reserved</th><th scope=\"col\" class=\"number\">In all</th></tr></thead>\n<tbody>\n",
    );
    for node in &topology.numa_nodes {
        for kind in node.memory.iter().filter(|kind| kind.total_bytes > 0) {
            let MemoryUse { memory_type, total_bytes, book } = kind;
            let cells = book.map_or_else(
                || "<td class=\"number\">–</td>".repeat(3),
                |book| {
                    let free = book.allocatable_bytes.saturating_sub(book.held_bytes);
                    let sizes = [book.held_bytes, free, book.reserved_bytes].map(Size);
                    sizes.map(|size| format!("<td class=\"number\">{size}</td>")).concat()
                },
            );
            let (id, total) = (node.id, Size(*total_bytes));
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{id}</th><td class=\"word\">{}</td>{cells}<td class=\"number\">{total}</td></tr>",
                Xml(memory_type)
            );
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

/// Where each CPU is: a line for each use and holder below each cache.
fn places(out: &mut String, topology: &Topology) {
    out.push_str(
        "<details id=\"places\"><summary>Where each CPU is</summary>\n\
         <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Where each CPU is\">\n<table>\n\
         <thead><tr><th scope=\"col\">Socket</th><th scope=\"col\">NUMA node</th><th scope=\"col\">L3</th>\
         <th scope=\"col\">CPUs</th><th scope=\"col\">Cores</th><th scope=\"col\">Use</th></tr></thead>\n<tbody>\n",
    );
    for socket in Machine::new(topology).sockets {
        for numa in &socket.numas {
            for cache in &numa.caches {
                let id = cache.id.map_or_else(|| "–".to_owned(), |id| id.to_string());
                for (words, (cpus, cores)) in uses(topology, cache) {
                    let _ = writeln!(
                        out,
                        "<tr><td>{}</td><td>{}</td><td>{id}</td><th scope=\"row\">{cpus}</th><td>{cores}</td>\
                         <td><bdi>{}</bdi></td></tr>",
                        socket.id,
                        numa.id,
                        Xml(&words)
                    );
                }
            }
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n</details>\n");
}

/// CPUs below a cache by use and holder, and how many cores they are on.
fn uses(topology: &Topology, cache: &Cache<'_>) -> BTreeMap<String, (CpuSet, usize)> {
    let mut uses = BTreeMap::<String, (CpuSet, usize)>::new();
    for core in &cache.cores {
        let mut seen = Vec::new();
        for cpu in &core.cpus {
            let words = topology.describe(cpu);
            let (cpus, cores) = uses.entry(words.clone()).or_default();
            cpus.insert(cpu.place.cpu);
            if !seen.contains(&words) {
                seen.push(words);
                *cores += 1;
            }
        }
    }
    uses
}
