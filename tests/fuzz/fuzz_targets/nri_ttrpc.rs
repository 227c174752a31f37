//! `cargo fuzz run nri_ttrpc`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| trimtab_fuzz::wire::nri_ttrpc(data));

/// Without the fuzzer there is nothing to run; the corpus is replayed by the hermetic tests.
#[cfg(not(fuzzing))]
fn main() {}
