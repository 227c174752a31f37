//! The subsystems: state, drift that shows now, and what was changed last.

use std::fmt::Write as _;

use super::{MAX_ENTRIES, Time, left_out, time_or_never};
use crate::picture::Xml;
use crate::reconcile::report::{NodeReport, State, SubsystemReport};

/// A table without a caption of its own opens so; the head of the section names it.
pub(super) fn open(out: &mut String, id: &str, title: &str, columns: &[&str]) {
    let _ = write!(
        out,
        "<section id=\"{id}\" aria-labelledby=\"{id}-head\">\n<h2 id=\"{id}-head\">{title}</h2>\n\
         <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"{id}-head\">\n<table>\n<thead><tr>"
    );
    for column in columns {
        let _ = write!(out, "<th scope=\"col\">{column}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
}

pub(super) const CLOSE: &str = "</tbody>\n</table>\n</div>\n</section>\n";

pub(super) fn section(out: &mut String, report: &NodeReport) {
    let columns =
        ["Subsystem", "State", "Objects", "Refused", "Findings", "Drift healed", "Passes", "Last pass", "Last change"];
    open(out, "subsystems", "Subsystems", &columns);
    for subsystem in &report.subsystems {
        let class = match subsystem.state {
            State::Converged => "good",
            State::Pending | State::Paused => "plain",
            State::Failing | State::Fighting => "bad",
        };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td><span class=\"chip {class}\">{}</span></td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            subsystem.name,
            subsystem.state.as_str(),
            subsystem.objects.len(),
            subsystem.refusals.len(),
            subsystem.findings.len(),
            subsystem.totals.drift_healed,
            subsystem.totals.passes,
            time_or_never(subsystem.last_pass),
            time_or_never(subsystem.last_change),
        );
    }
    out.push_str(CLOSE);
}

/// Objects that show another value than the profile asks for.
pub(super) fn drift(out: &mut String, report: &NodeReport) {
    let all = report.subsystems.iter().flat_map(|subsystem| {
        let wrong =
            subsystem.objects.iter().filter(|object| object.desired.is_some() && object.desired != object.observed);
        wrong.map(|object| (subsystem.name, object))
    });
    let all: Vec<_> = all.collect();
    if all.is_empty() {
        out.push_str(
            "<section id=\"drift\" aria-labelledby=\"drift-head\">\n<h2 id=\"drift-head\">Drift now</h2>\n\
             <p>None: every object shows what the profile asks for.</p>\n</section>\n",
        );
        return;
    }
    open(out, "drift", "Drift now", &["Subsystem", "Object", "Asked for", "Shows"]);
    for (name, object) in all.iter().take(MAX_ENTRIES) {
        let desired = object.desired.as_deref().unwrap_or_default();
        let observed = object.observed.as_deref().unwrap_or("absent");
        let _ = writeln!(
            out,
            "<tr><td class=\"word\">{name}</td><th scope=\"row\"><bdi class=\"name\">{}</bdi></th><td><bdi>{}</bdi></td><td><bdi>{}</bdi></td></tr>",
            Xml(&object.object),
            Xml(desired),
            Xml(observed)
        );
    }
    if let Some(more) = left_out(all.len()) {
        let _ = writeln!(out, "<tr><td colspan=\"4\">{more}</td></tr>");
    }
    out.push_str(CLOSE);
}

/// The steps of the last pass of each subsystem that changed something, newest first.
pub(super) fn changes(out: &mut String, report: &NodeReport) {
    let mut changed: Vec<&SubsystemReport> =
        report.subsystems.iter().map(AsRef::as_ref).filter(|subsystem| !subsystem.steps.is_empty()).collect();
    changed.sort_by_key(|subsystem| std::cmp::Reverse(subsystem.last_change));
    if changed.is_empty() {
        out.push_str(
            "<section id=\"changes\" aria-labelledby=\"changes-head\">\n<h2 id=\"changes-head\">Last changes</h2>\n\
             <p>None since the agent started.</p>\n</section>\n",
        );
        return;
    }
    open(out, "changes", "Last changes", &["When", "Subsystem", "Step", "Result"]);
    for subsystem in changed {
        let when = subsystem.last_change.map(|time| Time(time).to_string()).unwrap_or_default();
        for step in subsystem.steps.iter().take(MAX_ENTRIES) {
            let result = step.error.as_ref().map_or_else(
                || "done".to_owned(),
                |error| format!("<span class=\"chip bad\">failed</span> <bdi>{}</bdi>", Xml(error)),
            );
            let _ = writeln!(
                out,
                "<tr><td>{when}</td><td class=\"word\">{}</td><th scope=\"row\"><bdi class=\"name\">{}</bdi></th><td>{result}</td></tr>",
                subsystem.name,
                Xml(&step.step)
            );
        }
        if let Some(more) = left_out(subsystem.steps.len()) {
            let _ = writeln!(out, "<tr><td colspan=\"4\">{more}</td></tr>");
        }
    }
    out.push_str(CLOSE);
}
