//! Tells the linker how to make the released program small in memory.

#![expect(clippy::disallowed_methods, reason = "a build script is told of the target by its environment")]

use std::env;

/// Which functions lie beside the others.
const LAYOUT: &str = "beside.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LAYOUT}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !(is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("PROFILE", "release")) {
        return;
    }
    // The list of addresses that the loader puts right (half a megabyte, read once) takes bits instead of 24 bytes for each.
    // The C library has to know the form (glibc 2.36); GNU's linker of that day has it for this architecture only.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if let Ok(directory) = env::var("CARGO_MANIFEST_DIR") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/{LAYOUT}");
    }
}
