//! How the nodes of a cluster stand to its profiles: what each profile is told of all of its nodes together.

use std::collections::BTreeMap;

/// How one node stands, as its `NodeState` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeStanding {
    /// All is as the profile says.
    InSync,
    /// A wish is not granted.
    Refusing,
    /// Something could not be done, or somebody keeps undoing it, or the newest profile is refused.
    Failing,
    /// Not yet, or a person has asked for a pause.
    Waiting,
}

impl NodeStanding {
    /// Reads the word of `NodeState.state`; one of a later release counts as waiting.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word {
            "InSync" => Self::InSync,
            "Refusing" => Self::Refusing,
            "Failing" | "Fighting" => Self::Failing,
            _ => Self::Waiting,
        }
    }
}

/// One node among those that are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedNode {
    /// The profile that is for this node; empty: none.
    pub selected: String,
    /// The profile that it holds; differs while the selected one is new or refused.
    pub held: String,
    /// Generation of the object that it holds; 0 for a file.
    pub generation: i64,
    /// How it stands.
    pub standing: NodeStanding,
    /// Objects that it found changed by others.
    pub drifts: u64,
}

/// The nodes of one profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Generation of the profile that was counted for.
    pub generation: i64,
    /// Nodes that it is for.
    pub nodes: u32,
    /// Those that hold this generation, and all is as it says.
    pub in_sync: u32,
    /// Those where something could not be done.
    pub failing: u32,
    /// Those that do not grant a wish.
    pub refusing: u32,
    /// Those that found something changed by others since their agents started.
    pub drifted: u32,
    /// Those that hold another profile or an older generation.
    pub outdated: u32,
}

/// What can be said of a profile in one word: name of the condition, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileCondition {
    /// `RolledOut` or `InSync`.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word of a closed set.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

/// Counts the nodes for these profiles, given with their generations. A node of a profile that is not among them is nobody's.
#[must_use]
pub fn count<'a>(
    generations: impl IntoIterator<Item = (&'a str, i64)>,
    nodes: impl IntoIterator<Item = CountedNode>,
) -> BTreeMap<String, Tally> {
    let none = |(name, generation): (&str, i64)| (name.to_owned(), Tally { generation, ..Tally::default() });
    let mut tallies: BTreeMap<String, Tally> = generations.into_iter().map(none).collect();
    for node in nodes {
        if let Some(tally) = tallies.get_mut(&node.selected) {
            tally.add(&node);
        }
    }
    tallies
}

impl Tally {
    fn add(&mut self, node: &CountedNode) {
        let is_outdated = node.held != node.selected || node.generation != self.generation;
        self.nodes += 1;
        self.outdated += u32::from(is_outdated);
        self.drifted += u32::from(node.drifts > 0);
        match node.standing {
            NodeStanding::InSync => self.in_sync += u32::from(!is_outdated),
            NodeStanding::Refusing => self.refusing += 1,
            NodeStanding::Failing => self.failing += 1,
            NodeStanding::Waiting => {}
        }
    }

    /// Its conditions, in the order in which they are shown.
    #[must_use]
    pub fn conditions(&self) -> [ProfileCondition; 2] {
        let Self { nodes, .. } = *self;
        let of = |count: u32| format!("{count} of {nodes} nodes");
        let condition = |kind, (holds, reason, message)| ProfileCondition { kind, holds, reason, message };
        let rolled_out = match self.outdated {
            _ if nodes == 0 => (true, "NoNodes", "this profile is for no node".to_owned()),
            0 => (true, "EveryNode", format!("{nodes} nodes hold generation {}", self.generation)),
            outdated => (false, "Outdated", format!("{} do not hold generation {}", of(outdated), self.generation)),
        };
        let in_sync = if self.failing > 0 {
            (false, "Failing", format!("{} fail", of(self.failing)))
        } else if self.refusing > 0 {
            (false, "Refusing", format!("{} do not grant a wish", of(self.refusing)))
        } else if self.in_sync < nodes {
            (false, "Waiting", format!("{} are as the profile says", of(self.in_sync)))
        } else {
            (
                true,
                if nodes == 0 { "NoNodes" } else { "InSync" },
                format!("{} are as the profile says", of(self.in_sync)),
            )
        };
        [condition("RolledOut", rolled_out), condition("InSync", in_sync)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(selected: &str, held: &str, generation: i64, state: &str) -> CountedNode {
        let (selected, held) = (selected.to_owned(), held.to_owned());
        CountedNode { selected, held, generation, standing: NodeStanding::of_word(state), drifts: 0 }
    }

    #[test]
    fn each_node_counts_once_for_the_profile_that_is_for_it() {
        let none = Tally { generation: 3, ..Tally::default() };
        let one = Tally { nodes: 1, ..none };
        let cases = [
            ("in sync", node("web", "web", 3, "InSync"), Tally { in_sync: 1, ..one }),
            ("an older generation", node("web", "web", 2, "InSync"), Tally { outdated: 1, ..one }),
            ("a file of the same name", node("web", "web", 0, "InSync"), Tally { outdated: 1, ..one }),
            ("refusing", node("web", "web", 3, "Refusing"), Tally { refusing: 1, ..one }),
            ("failing", node("web", "web", 3, "Failing"), Tally { failing: 1, ..one }),
            ("fighting", node("web", "web", 3, "Fighting"), Tally { failing: 1, ..one }),
            ("paused", node("web", "web", 3, "Paused"), one),
            ("a word of a later release", node("web", "web", 3, "Dancing"), one),
            (
                "refused, the old one is held",
                node("web", "all", 9, "Failing"),
                Tally { failing: 1, outdated: 1, ..one },
            ),
            ("a profile that is gone", node("old", "old", 3, "InSync"), none),
            ("no profile", node("", "", 0, "InSync"), none),
            (
                "drifted",
                CountedNode { drifts: 7, ..node("web", "web", 3, "InSync") },
                Tally { in_sync: 1, drifted: 1, ..one },
            ),
        ];
        for (name, node, expected) in cases {
            assert_eq!(count([("web", 3)], [node])["web"], expected, "{name}");
        }
    }

    #[test]
    fn a_profile_without_nodes_has_a_tally_too() {
        let nodes = [node("a", "a", 1, "InSync"), node("a", "a", 1, "Refusing")];
        let tallies = count([("a", 1), ("b", 4)], nodes);
        assert_eq!(tallies["a"], Tally { generation: 1, nodes: 2, in_sync: 1, refusing: 1, ..Tally::default() });
        assert_eq!(tallies["b"], Tally { generation: 4, ..Tally::default() });
    }

    #[test]
    fn conditions_say_the_worst_that_is_true() {
        let all = Tally { generation: 2, nodes: 3, in_sync: 3, ..Tally::default() };
        let cases = [
            ("none", Tally { nodes: 0, in_sync: 0, ..all }, [(true, "NoNodes"), (true, "NoNodes")]),
            ("all", all, [(true, "EveryNode"), (true, "InSync")]),
            ("on its way", Tally { in_sync: 2, outdated: 1, ..all }, [(false, "Outdated"), (false, "Waiting")]),
            ("one refuses", Tally { in_sync: 2, refusing: 1, ..all }, [(true, "EveryNode"), (false, "Refusing")]),
            ("worse", Tally { in_sync: 1, refusing: 1, failing: 1, ..all }, [(true, "EveryNode"), (false, "Failing")]),
        ];
        for (name, tally, expected) in cases {
            let conditions = tally.conditions();
            assert_eq!(conditions.clone().map(|c| (c.holds, c.reason)), expected, "{name}: {conditions:?}");
            assert_eq!(conditions.map(|c| c.kind), ["RolledOut", "InSync"]);
        }
        let one = Tally { in_sync: 2, refusing: 1, ..all }.conditions();
        assert_eq!(one[1].message, "1 of 3 nodes do not grant a wish");
    }
}
