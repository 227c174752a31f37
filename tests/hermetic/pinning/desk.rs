//! The desk, asked as a runtime asks it.
