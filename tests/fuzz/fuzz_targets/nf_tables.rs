//! `cargo fuzz run nf_tables`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| trimtab_fuzz::wire::nf_tables(data));

/// Without the fuzzer there is nothing to run; the corpus is replayed by the hermetic tests.
#[cfg(not(fuzzing))]
fn main() {}
