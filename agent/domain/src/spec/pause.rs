//! What a profile says of a time in which the node is to be left alone.

/// Section `pause`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseSpec {
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// Why, for people; may be empty.
    pub reason: String,
}
