//! What became of a wish: a sysctl, a rule, a bound; of any subsystem.

use trimtab_domain::sysctl::normalize;
use trimtab_proto::node::v1alpha1 as wire;

use super::{Explanation, Facts, Snapshot};

/// The objects that a word means, and wishes that were refused under that name.
pub(super) fn named(what: &str, snapshot: &Snapshot) -> Vec<Explanation> {
    let mut found = Vec::new();
    for subsystem in snapshot.report.subsystems.iter().filter(|subsystem| subsystem.name != "pinning") {
        let name = if subsystem.name == "sysctl" { dotted(what) } else { what.to_owned() };
        let object = subsystem.objects.iter().find(|object| object.object == name);
        let refusal = subsystem.refusals.iter().find(|refusal| refusal.object == name);
        if object.is_some() || refusal.is_some() {
            found.push(explained(&name, (subsystem, object, refusal), snapshot));
        }
    }
    found
}

/// A sysctl in any of the forms in which people write it.
fn dotted(what: &str) -> String {
    let what = what.strip_prefix("sysctl:").unwrap_or(what);
    normalize(what.strip_prefix("/proc/sys/").unwrap_or(what))
}

type Known<'a> = (&'a wire::Subsystem, Option<&'a wire::Object>, Option<&'a wire::Refusal>);

fn explained(name: &str, (subsystem, object, refusal): Known<'_>, snapshot: &Snapshot) -> Explanation {
    let mut facts = Facts::default();
    let desired = object.and_then(|object| object.desired.clone());
    let observed = object.and_then(|object| object.observed.clone());
    let fight = subsystem.fights.iter().find(|fight| fight.object == name);
    let answer = if let Some(refusal) = refusal {
        format!("the wish {} is refused ({})", refusal.wish, super::cause(refusal))
    } else if desired.is_none() {
        "it is only observed: the profile asks for nothing".to_owned()
    } else if desired == observed {
        "it is as ordered".to_owned()
    } else if let Some(pause) = &subsystem.pause {
        let until = pause.until.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("it is not as ordered, and left so until {until}: {} is paused", subsystem.name)
    } else if fight.is_some() {
        "it is not as ordered: another program keeps changing it back, and it is left alone for a while".to_owned()
    } else {
        "it is not as ordered".to_owned()
    };
    facts.add_some("desired", desired);
    facts.add("observed", observed.unwrap_or_else(|| "absent".to_owned()));
    for attribute in object.iter().flat_map(|object| &object.attributes) {
        facts.add(&attribute.name, attribute.value.clone());
    }
    facts.add_some("because", refusal.map(|refusal| refusal.detail.clone()));
    if let Some(fight) = fight {
        let writer = fight.likely_writer.as_deref().unwrap_or("an unknown program");
        facts.add("fight", format!("{writer} changed it back {} times", fight.rewrites));
        facts.add_some("left alone until", fight.held_until.as_ref().map(ToString::to_string));
    }
    for finding in subsystem.findings.iter().filter(|finding| finding.object == name) {
        facts.add(&finding.code, [finding.message.as_str(), &finding.remedy].join("; "));
    }
    facts.add_some("last failure", subsystem.last_error.clone().filter(|error| error.contains(name)));
    facts.add_some("last looked at", subsystem.last_pass.as_ref().map(ToString::to_string));
    facts.add_changes(snapshot, name);
    Explanation { kind: subsystem.name.clone(), subject: name.to_owned(), answer, facts: facts.0 }
}
