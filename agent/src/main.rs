//! Entry point of the `trimtab` program: flags, logging, exit code.

fn main() {}
