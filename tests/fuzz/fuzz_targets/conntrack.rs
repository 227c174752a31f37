//! `cargo fuzz run conntrack`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| trimtab_fuzz::wire::conntrack(data));

/// Without the fuzzer there is nothing to run; the corpus is replayed by the hermetic tests.
#[cfg(not(fuzzing))]
fn main() {}
