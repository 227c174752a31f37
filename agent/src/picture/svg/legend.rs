//! What the colours and letters of a free-standing image mean.

use std::fmt::Write as _;

use trimtab_domain::cpuset::CpuSet;

use super::{HUES, fit};
use crate::picture::escape::Xml;
use crate::picture::summary::counts;
use crate::picture::topology::{Topology, Usage, key};

/// Height of a line.
const LINE: u32 = 20;
/// Width of a column.
const COLUMN: u32 = 560;

/// The drawn legend.
pub(super) struct Legend {
    pub(super) text: String,
    pub(super) bottom: u32,
}

/// Draws it below `top`: an entry per holder, then one per use, in as many columns as fit.
pub(super) fn legend(topology: &Topology, top: u32, width: u32) -> Legend {
    let holders = topology.holders.iter().enumerate().map(|(index, holder)| {
        let (mut class, mut mark) = (format!("exclusive k{}", index % HUES), key(index));
        let mut words = format!("{}: {}", holder.path(), topology.cpus_of(index));
        if holder.waiting {
            words.push_str("; waits for its next start");
        }
        if let Some(reason) = &holder.mispinned {
            class.push_str(" mispinned");
            mark.push('!');
            words = format!("{words}; mispinned: {reason}");
        }
        (class, mark, words)
    });
    let strays = topology.mispinned_sharing.iter().map(|holder| {
        let reason = holder.mispinned.as_deref().unwrap_or_default();
        ("shared mispinned".to_owned(), "!".to_owned(), format!("{}; mispinned: {reason}", holder.path()))
    });
    let uses = counts(topology).into_iter().filter_map(|count| count.usage).filter(|usage| *usage != Usage::Exclusive);
    let uses = uses.map(|usage| {
        let words = format!("{}: {}", usage.meaning(), topology.cpus_in(usage));
        (usage.as_str().to_owned(), usage.symbol().to_string().replace('.', "·"), words)
    });
    let offline: CpuSet = topology.offline_cpus.iter().copied().collect();
    let offline = (!offline.is_empty()).then(|| ("off".to_owned(), "×".to_owned(), format!("offline: {offline}")));
    let mut legend = Legend { text: "<g class=\"legend\">\n".to_owned(), bottom: top };
    let columns = (width / COLUMN).max(1);
    let places = (0..).flat_map(|row: u32| (0..columns).map(move |column| (column * COLUMN, top + row * LINE)));
    for ((class, mark, words), (x, y)) in holders.chain(uses).chain(offline).chain(strays).zip(places) {
        let _ = writeln!(
            legend.text,
            "<g class=\"cpu {class}\"><rect x=\"{x}\" y=\"{y}\" width=\"26\" height=\"16\" rx=\"2\"/>\
             <text class=\"m\" x=\"{middle}\" y=\"{base}\" font-size=\"11\">{}</text></g>\
             <text class=\"label\" x=\"{words}\" y=\"{base}\">{}</text>",
            Xml(mark),
            Xml(fit(&words, COLUMN - 44, 11)),
            middle = x + 13,
            words = x + 34,
            base = y + 12,
        );
        legend.bottom = y + LINE;
    }
    legend.text.push_str("</g>\n");
    legend
}
