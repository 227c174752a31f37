//! What a person should look at, worst first.

use std::fmt::Write as _;

use trimtab_domain::plan::{Finding, Severity};

use super::{MAX_ENTRIES, Time, left_out};
use crate::picture::Xml;
use crate::reconcile::report::{NodeReport, SubsystemReport};

/// One matter: how bad, the word for it, and the rest as HTML.
struct Concern {
    rank: u8,
    class: &'static str,
    word: &'static str,
    html: String,
}

pub(super) fn section(out: &mut String, report: &NodeReport) {
    out.push_str(
        "<section id=\"concerns\" aria-labelledby=\"concerns-head\">\n<h2 id=\"concerns-head\">Needs a look</h2>\n",
    );
    let mut concerns: Vec<Concern> = report.profile.errors.iter().map(|error| refused_profile(error)).collect();
    concerns.extend(report.findings.iter().map(|finding| found("agent", finding)));
    for subsystem in &report.subsystems {
        of_subsystem(&mut concerns, subsystem);
    }
    concerns.sort_by_key(|concern| concern.rank);
    if concerns.is_empty() {
        out.push_str("<p>Nothing.</p>\n</section>\n");
        return;
    }
    out.push_str("<ul class=\"concerns\">\n");
    for Concern { class, word, html, .. } in concerns.iter().take(MAX_ENTRIES) {
        let _ = writeln!(out, "<li><span class=\"chip {class}\">{word}</span> {html}</li>");
    }
    if let Some(more) = left_out(concerns.len()) {
        let _ = writeln!(out, "<li>{more}</li>");
    }
    out.push_str("</ul>\n</section>\n");
}

fn of_subsystem(concerns: &mut Vec<Concern>, subsystem: &SubsystemReport) {
    let name = subsystem.name;
    if let Some(error) = &subsystem.last_error {
        let html = format!("{name}: <bdi>{}</bdi>", Xml(error));
        concerns.push(Concern { rank: 0, class: "bad", word: "failing", html });
    }
    concerns.extend(subsystem.fights.iter().map(|fight| {
        let writer = fight.likely_writer.as_deref().unwrap_or("an unknown program");
        let html = format!(
            "{name}: <bdi>{}</bdi> changed <bdi class=\"name\">{}</bdi> back {} times; left alone until {}",
            Xml(writer),
            Xml(&fight.object),
            fight.rewrites,
            Time(fight.held_until)
        );
        Concern { rank: 0, class: "bad", word: "fight", html }
    }));
    concerns.extend(subsystem.refusals.iter().map(|refusal| {
        let html = format!(
            "{name}: <bdi class=\"name\">{} = {}</bdi> ({}): <bdi>{}</bdi>",
            Xml(&refusal.object),
            Xml(&refusal.wish),
            refusal.cause.as_str(),
            Xml(&refusal.detail)
        );
        Concern { rank: 2, class: "doubt", word: "refused", html }
    }));
    concerns.extend(subsystem.findings.iter().map(|finding| found(name, finding)));
}

fn refused_profile(error: &str) -> Concern {
    Concern { rank: 0, class: "bad", word: "profile", html: format!("<bdi>{}</bdi>", Xml(error)) }
}

fn found(owner: &str, finding: &Finding) -> Concern {
    let (rank, class, word) = match finding.severity {
        Severity::Error => (1, "bad", "error"),
        Severity::Warning => (3, "doubt", "warning"),
        Severity::Info => (4, "plain", "info"),
    };
    let (object, message) = (Xml(&finding.object), Xml(&finding.message));
    let mut html = format!("{owner}: <bdi class=\"name\">{object}</bdi>: <bdi>{message}</bdi>");
    if !finding.remedy.is_empty() {
        let _ = write!(html, "; <bdi>{}</bdi>", Xml(&finding.remedy));
    }
    Concern { rank, class, word, html }
}
