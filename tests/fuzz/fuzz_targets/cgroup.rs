//! `cargo fuzz run cgroup`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| trimtab_fuzz::bodies::cgroup(data));

/// Without the fuzzer there is nothing to run; the corpus is replayed by the domain's tests.
#[cfg(not(fuzzing))]
fn main() {}
