//! How the node stands to its profile, in the few facts that others are told.

/// The node as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeHealth {
    /// `metadata.name` of the profile in force; empty: none.
    pub profile: String,
    /// Counts the profiles that were in force since the agent started; 0: none yet.
    pub generation: u64,
    /// Where the profile came from.
    pub source: String,
    /// Why the newest profile is not in force; empty if it is.
    pub profile_errors: Vec<String>,
    /// A newer profile that this node does not take yet, and why; `None`: none.
    pub waiting: Option<String>,
    /// True once every part has been brought to the profile, as far as it could be.
    pub ready: bool,
    /// The parts of the node, by name.
    pub parts: Vec<PartHealth>,
}

/// How one part of the node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nobody has looked yet.
    Pending,
    /// It is as the profile says, refusals excepted.
    Converged,
    /// Something could not be read or written.
    Failing,
    /// Another program keeps undoing a change.
    Fighting,
    /// A person has asked for no passes for a while.
    Paused,
}

/// One part of the node, for instance `sysctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHealth {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// Why it must not count as ready; `None`: it may.
    pub unready: Option<String>,
    /// The last failure, until a pass succeeds.
    pub error: Option<String>,
    /// Wishes that are not granted: object, cause, detail.
    pub refusals: Vec<Trouble>,
    /// What a person should know and is a warning or an error: object, code, message.
    pub findings: Vec<Trouble>,
    /// Objects that somebody else keeps changing, with the likely writer.
    pub fights: Vec<Trouble>,
    /// Objects that the profile asks something of.
    pub asked: usize,
    /// Objects found changed by others since the agent started.
    pub drifts: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// The object on the node.
    pub object: String,
    /// A word of a closed set.
    pub code: &'static str,
    /// One sentence for a person.
    pub detail: String,
}

impl PartHealth {
    /// A part of which nothing is known yet.
    #[must_use]
    pub fn pending(name: &'static str) -> Self {
        Self {
            name,
            standing: Standing::Pending,
            unready: None,
            error: None,
            refusals: Vec::new(),
            findings: Vec::new(),
            fights: Vec::new(),
            asked: 0,
            drifts: 0,
        }
    }

    /// True if it is as the profile says without a reservation.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.standing == Standing::Converged && self.refusals.is_empty()
    }
}

impl NodeHealth {
    /// A part by its name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&PartHealth> {
        self.parts.iter().find(|part| part.name == name)
    }
}
