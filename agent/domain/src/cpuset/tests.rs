//! Tables and properties of CPU sets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn text_is_read_and_printed_canonically() {
    for (text, printed, len) in [
        ("", "", 0),
        ("0", "0", 1),
        ("3,1,2", "1-3", 3),
        ("4-5", "4-5", 2),
        ("+1-+3", "1-3", 3),
        ("007", "7", 1),
        ("0-3,2-5,255-257", "0-5,255-257", 9),
        ("8191", "8191", 1),
    ] {
        let set = CpuSet::parse(text).unwrap();
        assert_eq!((set.to_string().as_str(), set.len()), (printed, len), "{text:?}");
    }
}

#[test]
fn faulty_text_is_refused_with_the_words_of_the_kubelet() {
    for (text, message) in [
        (" 0", r#"strconv.Atoi: parsing " 0": invalid syntax"#),
        ("0,", r#"strconv.Atoi: parsing "": invalid syntax"#),
        ("-1", r#"strconv.Atoi: parsing "": invalid syntax"#),
        ("0-1-2", r#"strconv.Atoi: parsing "1-2": invalid syntax"#),
        ("0-3\n", r#"strconv.Atoi: parsing "3\n": invalid syntax"#),
        ("1--2", r#"invalid range "1--2" (1 > -2)"#),
        ("5-4", r#"invalid range "5-4" (5 > 4)"#),
        ("9223372036854775808", r#"strconv.Atoi: parsing "9223372036854775808": value out of range"#),
        ("8192", "CPU 8192 is too high: numbers below 8192 are allowed"),
        ("0-9223372036854775807", "CPU 9223372036854775807 is too high: numbers below 8192 are allowed"),
    ] {
        assert_eq!(CpuSet::parse(text).unwrap_err().to_string(), message, "{text:?}");
    }
}

#[test]
fn serialized_form_is_the_list_text() {
    let set = CpuSet::range(2, 4);
    assert_eq!(serde_json::to_string(&set).unwrap(), "\"2-4\"");
    assert_eq!(serde_json::from_str::<CpuSet>("\"2-4\"").unwrap(), set);
    assert!(serde_json::from_str::<CpuSet>("\"4-2\"").is_err());
}

fn cpus() -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(prop_oneof![0..70_u32, 250..260_u32, 0..MAX_CPUS], 0..40)
}

proptest! {
    #[test]
    fn set_algebra_agrees_with_a_tree_of_numbers(a in cpus(), b in cpus()) {
        let (x, y): (CpuSet, CpuSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let list = |set: &CpuSet| set.iter().collect::<Vec<_>>();
        prop_assert_eq!(list(&x.union(&y)), a.union(&b).copied().collect::<Vec<_>>());
        prop_assert_eq!(list(&x.intersection(&y)), a.intersection(&b).copied().collect::<Vec<_>>());
        prop_assert_eq!(list(&x.difference(&y)), a.difference(&b).copied().collect::<Vec<_>>());
        prop_assert_eq!(x.intersection_len(&y), a.intersection(&b).count());
        prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
        prop_assert_eq!(x.is_disjoint(&y), a.is_disjoint(&b));
        prop_assert_eq!(x.len(), a.len());
        prop_assert_eq!((x.first(), x.last()), (a.first().copied(), a.last().copied()));
        prop_assert_eq!(x == y, a == b);
        prop_assert_eq!(x.union(&y).difference(&y), x.difference(&y));
    }

    #[test]
    fn inserting_and_removing_is_reported(a in cpus(), cpu in 0..MAX_CPUS) {
        let mut set: CpuSet = a.iter().copied().collect();
        let before = set.clone();
        prop_assert_eq!(set.contains(cpu), a.contains(&cpu));
        prop_assert_eq!(set.insert(cpu), !a.contains(&cpu));
        prop_assert!(set.remove(cpu) && !set.remove(cpu));
        set.extend(a);
        prop_assert_eq!(set, before);
    }

    #[test]
    fn printing_then_reading_gives_the_same_set(a in cpus()) {
        let set: CpuSet = a.into_iter().collect();
        prop_assert_eq!(CpuSet::parse(&set.to_string()).unwrap(), set);
    }

    #[test]
    fn reading_never_panics(text in "[-+0-9, a\\n]{0,20}|.{0,12}") {
        if let Ok(set) = CpuSet::parse(&text) {
            prop_assert_eq!(CpuSet::parse(&set.to_string()).unwrap(), set);
        }
    }
}
