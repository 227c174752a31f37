//! What is decided about the node's place in its cluster: which profile is its own, and what others are told of it.
//!
//! Times are given by the caller, as a duration since some start that only goes forward.

pub mod condition;
pub mod event;
pub mod extended;
pub mod health;
pub mod label;
pub mod selection;
pub mod staleness;
pub mod startup;
pub mod tally;
pub mod telling;
