//! The protocols that Trimtab speaks, generated from the `.proto` files of this crate.
