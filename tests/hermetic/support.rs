//! Doubles shared by the tests.

pub(crate) mod toy;
