//! Which profile is in force where there are two sources: the API server's objects and the file.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trimtab_domain::spec::NodeSpec;

use crate::adapters::profile_file::{self, LoadedProfile};
use crate::adapters::profile_object::{self, Offer, OfferedProfile};
use crate::config::{ProfileSource, RunArgs};
use crate::reconcile::report::ProfileReport;

/// Follows what is in force until cancelled; the first value is there on return. Needs a tokio runtime.
pub(super) fn follow(
    args: &RunArgs,
    offers: Option<watch::Receiver<Offer>>,
    cancel: CancellationToken,
) -> watch::Receiver<LoadedProfile> {
    let file = |cancel| profile_file::follow(&args.node.profile, &args.node.state_dir, cancel);
    let source = args.kube.profile_source;
    let Some(offers) = offers.filter(|_| source != ProfileSource::File) else { return file(cancel) };
    let object = profile_object::follow(offers, &args.node.state_dir, cancel.clone());
    let file = (source == ProfileSource::Auto).then(|| file(cancel.clone()));
    join(file, object, cancel)
}

fn join(
    mut file: Option<watch::Receiver<LoadedProfile>>,
    mut object: watch::Receiver<OfferedProfile>,
    cancel: CancellationToken,
) -> watch::Receiver<LoadedProfile> {
    let mut now = move || {
        let from_file = file.as_mut().map(|file| file.borrow_and_update().clone());
        let chosen = choose(from_file, object.borrow_and_update().clone());
        (chosen, file.clone(), object.clone())
    };
    let (first, _, _) = now();
    let (out, receiver) = watch::channel(numbered(first, None));
    tokio::spawn(async move {
        loop {
            let (chosen, mut file, mut object) = now();
            out.send_if_modified(|known| {
                let next = numbered(chosen, Some(known));
                let differs = *known != next;
                if differs {
                    *known = next;
                }
                differs
            });
            let file_changed = async {
                match &mut file {
                    Some(file) => drop(file.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = file_changed => {}
                _changed = object.changed() => {}
            }
        }
    });
    receiver
}

/// The object goes before the file; the file is for nodes that no object selects, and for the time before anything is
/// known of objects.
fn choose(file: Option<LoadedProfile>, object: OfferedProfile) -> LoadedProfile {
    match (&object.offer, file) {
        (Offer::Unknown, Some(file)) if object.loaded.spec.is_none() => file,
        (Offer::Unknown | Offer::Object { .. }, _) => object.loaded,
        (Offer::Nothing { .. }, Some(file)) if file.spec.is_some() => file,
        (Offer::Nothing { why }, file) => nothing(why, file),
    }
}

/// No profile is a profile, too: nothing is held, and what was held is given back.
fn nothing(why: &str, file: Option<LoadedProfile>) -> LoadedProfile {
    let report = ProfileReport { source: why.to_owned(), valid: true, ..ProfileReport::default() };
    let findings = file.map(|file| file.findings).unwrap_or_default();
    LoadedProfile { spec: Some(Arc::new(NodeSpec::default())), text: None, report, findings }
}

/// With a number that grows whenever another specification is in force, whichever source it is from.
fn numbered(mut next: LoadedProfile, before: Option<&LoadedProfile>) -> LoadedProfile {
    let generation = before.map_or(0, |before| before.report.generation);
    let same = match (before.and_then(|before| before.spec.as_ref()), &next.spec) {
        (Some(before), Some(next)) => before == next,
        (_, None) => true,
        (None, Some(_)) => false,
    };
    if next.spec.is_none() {
        // What was in force stays in force; only what is said of it is new.
        next.spec = before.and_then(|before| before.spec.clone());
        next.text = before.and_then(|before| before.text.clone());
    }
    next.report.generation = if same { generation } else { generation + 1 };
    next
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn loaded(name: &str) -> LoadedProfile {
        let spec = (!name.is_empty()).then(|| Arc::new(NodeSpec { name: name.into(), ..NodeSpec::default() }));
        let report = ProfileReport { name: name.into(), valid: spec.is_some(), ..ProfileReport::default() };
        LoadedProfile { spec, text: None, report, findings: Vec::new() }
    }

    fn offered(offer: &str, name: &str) -> OfferedProfile {
        let why = "why".to_owned();
        let offer = match offer {
            "unknown" => Offer::Unknown,
            "nothing" => Offer::Nothing { why },
            _ => Offer::Object { origin: "nodeprofiles/o".into(), text: "".into(), why, waiting: None },
        };
        OfferedProfile { offer, loaded: loaded(name) }
    }

    #[test]
    fn the_object_goes_before_the_file_and_the_file_before_nothing() {
        let cases = [
            ("nothing known, nothing kept", Some("file"), offered("unknown", ""), Some("file")),
            ("nothing known, one kept", Some("file"), offered("unknown", "kept"), Some("kept")),
            ("nothing at all", Some(""), offered("unknown", ""), None),
            ("only objects, nothing known", None, offered("unknown", ""), None),
            ("an object", Some("file"), offered("object", "o"), Some("o")),
            ("a bad object after a good one", Some("file"), offered("object", "o"), Some("o")),
            ("a bad object, none before", Some("file"), offered("object", ""), None),
            ("none selects, a file", Some("file"), offered("nothing", ""), Some("file")),
            ("none selects, no file", Some(""), offered("nothing", ""), Some("")),
            ("none selects, only objects", None, offered("nothing", ""), Some("")),
        ];
        for (case, file, object, expected) in cases {
            let chosen = choose(file.map(loaded), object);
            assert_eq!(chosen.spec.map(|spec| spec.name.clone()).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn the_number_grows_with_each_other_specification_and_only_then() {
        let first = numbered(loaded("a"), None);
        let same = numbered(loaded("a"), Some(&first));
        let other = numbered(loaded("b"), Some(&same));
        let lost = numbered(loaded(""), Some(&other));
        let numbers = [&first, &same, &other, &lost].map(|loaded| loaded.report.generation);
        assert_eq!(numbers, [1, 1, 2, 2]);
        assert_eq!(lost.spec.unwrap().name, "b", "what was in force stays in force");
        assert_eq!(numbered(loaded(""), None).report.generation, 0);
    }
}
