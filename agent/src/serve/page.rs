//! The page about the node: the report and the picture as one HTML document, complete without scripts.
//!
//! Pure: the moment to speak of is told by the caller.

mod concerns;
mod history;
mod machine;
mod subsystems;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::picture::{Topology, Xml};
use crate::reconcile::history::Entry;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::report::NodeReport;

/// The style sheet of the page.
pub(super) const STYLE: &str = concat!(include_str!("page/page.css"), include_str!("../picture/svg/map.css"));

/// The script of the page: brings changes as they happen, and tells of single CPUs. The page is whole without it.
pub(super) const SCRIPT: &str = include_str!("page/page.js");

/// Most entries of one list; a longer one says how many are left out.
const MAX_ENTRIES: usize = 200;

/// The document.
pub(super) fn document((report, view): (&NodeReport, &NodeView), history: &[Arc<Entry>], now: SystemTime) -> String {
    let topology = Topology::new(&report.node, view);
    let mut out = String::with_capacity(16 * 1024 + topology.cpus.len() * 512);
    let node = Xml(&report.node);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{node} · Trimtab</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"/page.css\">\n<script src=\"/page.js\" defer></script>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n<header>\n"
    );
    head(&mut out, report);
    let _ = write!(
        out,
        "<p id=\"live\" role=\"status\">As of {}. <a href=\"/\">Reload</a></p>\n</header>\n<main id=\"main\" tabindex=\"-1\">\n",
        Time(now)
    );
    concerns::section(&mut out, report);
    machine::section(&mut out, &topology);
    subsystems::section(&mut out, report);
    subsystems::drift(&mut out, report);
    if history.is_empty() {
        subsystems::changes(&mut out, report);
    } else {
        history::section(&mut out, history);
    }
    out.push_str(
        "</main>\n<footer><p><a href=\"/topology.svg\">The map as an image</a> · <a href=\"/metrics\">Metrics</a> · \
         <a href=\"/readyz\">Readiness</a></p></footer>\n</body>\n</html>\n",
    );
    out
}

/// Name, readiness, profile, version.
fn head(out: &mut String, report: &NodeReport) {
    let (class, ready) = if report.ready { ("good", "ready") } else { ("bad", "not ready") };
    let _ = write!(
        out,
        "<div id=\"node\">\n<h1>Node <bdi>{}</bdi> <span class=\"chip {class}\">{ready}</span></h1>\n<p>",
        Xml(&report.node)
    );
    let profile = &report.profile;
    let _ = if profile.generation == 0 {
        write!(out, "No profile in force")
    } else {
        write!(out, "Profile <bdi>{}</bdi>, generation {}", Xml(&profile.name), profile.generation)
    };
    if !profile.valid && profile.generation > 0 {
        out.push_str(" <span class=\"chip bad\">newest text refused</span>");
    }
    let _ = write!(out, " · trimtab {} · started {}</p>\n</div>\n", Xml(report.version), Time(report.started));
}

/// A moment as an element, in UTC, to the second.
struct Time(SystemTime);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let machine = humantime::format_rfc3339_seconds(self.0).to_string();
        let people = machine.replace('T', " ").replace('Z', " UTC");
        write!(f, "<time datetime=\"{machine}\">{people}</time>")
    }
}

/// The moment, or `never`.
fn time_or_never(time: Option<SystemTime>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| Time(time).to_string())
}

/// Says how many entries a list has beyond those that it shows.
fn left_out(count: usize) -> Option<String> {
    count.checked_sub(MAX_ENTRIES).filter(|more| *more > 0).map(|more| format!("and {more} more; see trimtab status"))
}
