//! What `watch` prints: a line whenever something changes.

use std::collections::BTreeMap;

use serde::Serialize;
use trimtab_proto::node::v1alpha1 as wire;

use super::history::Change;
use super::output::printable;
use super::status::word;

/// Something that a watcher is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// Readiness or profile of the node.
    #[serde(rename_all = "camelCase")]
    Node {
        /// Its name.
        node: String,
        /// Whether everything was brought to the profile once.
        ready: bool,
        /// Generation of the profile in force; 0: none.
        generation: u64,
        /// Whether the newest profile is in force.
        profile_valid: bool,
    },
    /// The state of a subsystem.
    #[serde(rename_all = "camelCase")]
    Subsystem {
        /// Its name.
        name: String,
        /// State before; absent: not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<String>,
        /// State now.
        state: String,
        /// The last failure, if that is why.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Something was changed.
    Change(Change),
}

impl Event {
    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Node { node, ready, generation, profile_valid } => {
                let ready = if *ready { "ready" } else { "not ready" };
                let profile = match (generation, profile_valid) {
                    (0, _) => "no profile in force".to_owned(),
                    (generation, true) => format!("profile generation {generation}"),
                    (generation, false) => format!("profile generation {generation}, the newest one is not valid"),
                };
                format!("node {}: {ready}, {profile}", printable(node))
            }
            Self::Subsystem { name, before, state, error } => {
                let error = error.as_ref().map(|error| format!(": {}", printable(error))).unwrap_or_default();
                match before {
                    Some(before) => format!("{}: {before} -> {state}{error}", printable(name)),
                    None => format!("{}: {state}{error}", printable(name)),
                }
            }
            Self::Change(change) => change.line(),
        }
    }
}

/// What a watcher knows, so that it says only what is new.
#[derive(Debug, Default)]
pub struct Follower {
    /// To resume from; 0: from the start.
    pub version: u64,
    /// Id of the newest change that was told; `None`: before the first message.
    pub told: Option<u64>,
    node: Option<(bool, u64, bool)>,
    states: BTreeMap<String, String>,
}

impl Follower {
    /// What a message says that was not known; changes of the history are for the caller to ask for.
    pub fn take(&mut self, message: wire::WatchResponse) -> Vec<Event> {
        self.version = message.version;
        let mut events = Vec::new();
        if let Some(node) = message.node {
            let profile = node.profile.unwrap_or_default();
            let now = (node.ready, profile.generation, profile.valid);
            if self.node.replace(now) != Some(now) {
                let (ready, generation, profile_valid) = now;
                events.push(Event::Node { node: node.node, ready, generation, profile_valid });
            }
        }
        for subsystem in message.subsystems {
            let state = word(subsystem.state().as_str_name(), "STATE_");
            let before = self.states.insert(subsystem.name.clone(), state.clone());
            if before.as_ref() != Some(&state) {
                events.push(Event::Subsystem { name: subsystem.name, before, state, error: subsystem.last_error });
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(version: u64, state: wire::State) -> wire::WatchResponse {
        let mut subsystem = wire::Subsystem { name: "sysctl".into(), ..wire::Subsystem::default() };
        subsystem.set_state(state);
        let profile = wire::Profile { generation: 2, valid: true, ..wire::Profile::default() };
        let node = wire::NodeReport { node: "n".into(), profile: Some(profile), ..wire::NodeReport::default() };
        wire::WatchResponse { version, node: Some(node), subsystems: vec![subsystem], ..wire::WatchResponse::default() }
    }

    #[test]
    fn only_what_is_new_is_said() {
        let mut follower = Follower::default();
        let lines = |events: Vec<Event>| events.iter().map(Event::line).collect::<Vec<_>>();
        let first = lines(follower.take(message(5, wire::State::Converged)));
        assert_eq!(first, ["node n: not ready, profile generation 2", "sysctl: converged"]);
        assert!(follower.take(message(6, wire::State::Converged)).is_empty());
        let mut failing = message(7, wire::State::Failing);
        failing.subsystems.iter_mut().for_each(|subsystem| subsystem.last_error = Some("no\u{1b}".into()));
        let third = lines(follower.take(failing));
        assert_eq!((third.len(), follower.version), (1, 7));
        assert!(
            third.iter().all(|line| line.starts_with("sysctl: converged -> failing: no") && !line.contains('\u{1b}'))
        );
    }
}
