//! When a node that was registered with the start-up taint is fit for pods.

use super::health::{NodeHealth, Standing};

/// Key of the taint with which nodes can be registered; of any effect.
pub const STARTUP_TAINT: &str = "trimtab.dev/not-ready";

/// What is still waited for; `None`: the node is as its profile says. What the profile asks for and this node cannot grant
/// is not waited for. `source` is where the profile must come from, if that is known.
#[must_use]
pub fn awaited(health: &NodeHealth, source: Option<&str>) -> Option<String> {
    if let Some(source) = source.filter(|source| *source != health.source) {
        return Some(match health.profile_errors.first() {
            Some(error) => format!("{source} is refused: {error}"),
            None => format!("{source} is not in force yet"),
        });
    }
    if let Some(error) = health.profile_errors.first() {
        return Some(format!("the newest profile is refused: {error}"));
    }
    if health.generation == 0 {
        return Some("no profile is in force yet".to_owned());
    }
    let waits = |standing: Standing| matches!(standing, Standing::Pending | Standing::Failing);
    if let Some(part) = health.parts.iter().find(|part| part.unready.is_some() || waits(part.standing)) {
        let why = part.unready.as_ref().or(part.error.as_ref());
        let why = why.map_or("no pass has ended yet", String::as_str);
        return Some(format!("{}: {why}", part.name));
    }
    (!health.ready).then(|| "not every part is ready".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::health::{PartHealth, Trouble};
    use super::*;

    fn well() -> NodeHealth {
        let part = |name| PartHealth { standing: Standing::Converged, ..PartHealth::pending(name) };
        NodeHealth {
            profile: "web".into(),
            generation: 1,
            source: "nodeprofiles/web".into(),
            profile_errors: Vec::new(),
            waiting: None,
            ready: true,
            parts: vec![part("sysctl"), part("pinning")],
        }
    }

    fn with(change: impl FnOnce(&mut NodeHealth)) -> NodeHealth {
        let mut health = well();
        change(&mut health);
        health
    }

    #[test]
    fn a_node_is_fit_once_every_part_has_done_what_can_be_done() {
        let refused = Trouble { object: "net.core.x".into(), code: "absent", detail: "no such key".into() };
        let cases: [(&str, NodeHealth, Option<&str>); 9] = [
            ("well", well(), None),
            ("a refusal", with(|health| health.parts[0].refusals.push(refused)), None),
            ("paused by a person", with(|health| health.parts[0].standing = Standing::Paused), None),
            ("no profile", with(|health| health.generation = 0), Some("no profile is in force yet")),
            (
                "a refused profile",
                with(|health| health.profile_errors.push("bad".into())),
                Some("the newest profile is refused: bad"),
            ),
            (
                "pending",
                with(|health| health.parts[1].standing = Standing::Pending),
                Some("pinning: no pass has ended yet"),
            ),
            (
                "failing",
                with(|health| {
                    health.parts[0].standing = Standing::Failing;
                    health.parts[0].error = Some("no space".into());
                }),
                Some("sysctl: no space"),
            ),
            (
                "unready",
                with(|health| health.parts[1].unready = Some("NRI is not connected".into())),
                Some("pinning: NRI is not connected"),
            ),
            ("not ready", with(|health| health.ready = false), Some("not every part is ready")),
        ];
        for (name, health, expected) in cases {
            assert_eq!(awaited(&health, None).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_file_that_is_held_until_the_cluster_has_answered_is_not_enough() {
        let file = with(|health| health.source = "/etc/trimtab/profile.yaml".into());
        let source = Some("nodeprofiles/web");
        assert_eq!(awaited(&file, source).as_deref(), Some("nodeprofiles/web is not in force yet"));
        let refused = NodeHealth { profile_errors: vec!["bad".into()], ..file.clone() };
        assert_eq!(awaited(&refused, source).as_deref(), Some("nodeprofiles/web is refused: bad"));
        assert_eq!((awaited(&well(), source), awaited(&file, None)), (None, None));
    }
}
