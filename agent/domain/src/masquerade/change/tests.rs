//! Transactions for tables in many states.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use super::*;
use crate::masquerade::{Family, Policy, SavedTable};
use crate::spec::IpMasqSpec;

const JUMP: &str = "-m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination \
                    traffic to our custom M chain\" -m addrtype ! --dst-type LOCAL -j M";
const QUOTED: &str = "-m comment --comment \"\\\"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination \
                      traffic to our custom M chain\\\"\" -m addrtype ! --dst-type LOCAL -j M";
const EXEMPT: &str =
    "-A M -d 10.0.0.0/8 -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN";
const LAST: &str = "-A M -m comment --comment \"ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)\" -j MASQUERADE --random-fully";

fn spec() -> IpMasqSpec {
    IpMasqSpec {
        non_masquerade_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
        masq_link_local: true,
        masq_link_local_ipv6: false,
        enable_ipv6: false,
        masq_chain: "M".into(),
        random_fully: true,
        to_ports: Vec::new(),
        ..IpMasqSpec::default()
    }
}

fn desired() -> ChainValue {
    ChainValue::render(&Policy::of(&spec(), Family::V4)).unwrap()
}

fn view(chains: &str, rules: &[&str]) -> TableView {
    let text = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{chains}{}\nCOMMIT\n", rules.join("\n"));
    TableView::new(&SavedTable::parse(&text).unwrap(), &BTreeSet::from(["M".to_owned()])).unwrap()
}

fn lines(change: &Change) -> Vec<&str> {
    change.text.lines().collect()
}

#[test]
fn a_fresh_table_gets_chain_contents_and_jump_in_one_transaction() {
    let change = write_chain(&view("", &["-A POSTROUTING -o a -j ACCEPT"]), "M", &desired(), None).unwrap();
    let jump = format!("-A POSTROUTING {JUMP}");
    assert_eq!(lines(&change), ["*nat", ":M - [0:0]", EXEMPT, LAST, &jump, "COMMIT"]);
    assert_eq!((change.old.as_str(), change.new.as_str()), ("absent", "2 rules, 1 jump"));
}

#[test]
fn what_is_right_is_not_written() {
    let swapped = "-A POSTROUTING -m addrtype ! --dst-type LOCAL -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING \
                   directs all non-LOCAL destination traffic to our custom M chain\" -j M";
    let plain = format!("-A POSTROUTING {JUMP}");
    for jump in [plain.as_str(), swapped] {
        let table = view(":M - [0:0]\n", &[jump, "-A POSTROUTING -o a -j ACCEPT", EXEMPT, LAST]);
        assert_eq!(write_chain(&table, "M", &desired(), None), None, "{jump}");
    }
}

#[test]
fn the_jump_stays_where_the_first_one_was_and_all_others_go() {
    let (plain, quoted) = (format!("-A POSTROUTING {JUMP}"), format!("-A POSTROUTING {QUOTED}"));
    let (delete_plain, delete_quoted) = (format!("-D POSTROUTING {JUMP}"), format!("-D POSTROUTING {QUOTED}"));
    let (second, last) = (format!("-I POSTROUTING 2 {JUMP}"), format!("-A POSTROUTING {JUMP}"));
    let foreign = "-A POSTROUTING -o a -j ACCEPT";
    let rows: [(&str, Vec<&str>, Vec<&str>); 5] = [
        ("missing", vec![foreign], vec![&last]),
        ("twice", vec![foreign, &plain, foreign, &plain], vec![&delete_plain, &delete_plain, &second]),
        ("quoted alone", vec![foreign, &quoted, foreign], vec![&delete_quoted, &second]),
        (
            "quoted first, plain last",
            vec![foreign, &quoted, foreign, &plain],
            vec![&delete_quoted, &delete_plain, &second],
        ),
        ("quoted, nothing else", vec![&quoted], vec![&delete_quoted, &last]),
    ];
    for (name, rules, expected) in rows {
        let table = view(":M - [0:0]\n", &[rules, vec![EXEMPT, LAST]].concat());
        let change = write_chain(&table, "M", &desired(), None).unwrap();
        assert_eq!(lines(&change), [vec!["*nat"], expected, vec!["COMMIT"]].concat(), "{name}");
    }
}

#[test]
fn only_contents_are_written_when_the_jump_is_right() {
    let jump = format!("-A POSTROUTING {JUMP}");
    for contents in [vec![], vec![LAST, EXEMPT], vec![EXEMPT, "-A M -s 1.2.3.4/32 -j ACCEPT", LAST]] {
        let table = view(":M - [0:0]\n", &[vec![jump.as_str()], contents].concat());
        let change = write_chain(&table, "M", &desired(), None).unwrap();
        assert_eq!(lines(&change), ["*nat", ":M - [0:0]", EXEMPT, LAST, "COMMIT"]);
    }
}

#[test]
fn a_removed_chain_takes_every_known_jump_with_it() {
    let (plain, quoted) = (format!("-A POSTROUTING {JUMP}"), format!("-A POSTROUTING {QUOTED}"));
    let change = remove_chain(&view(":M - [0:0]\n", &[&quoted, &plain, LAST]), "M").unwrap();
    let (delete_plain, delete_quoted) = (format!("-D POSTROUTING {JUMP}"), format!("-D POSTROUTING {QUOTED}"));
    assert_eq!(lines(&change), ["*nat", ":M - [0:0]", &delete_quoted, &delete_plain, "-X M", "COMMIT"]);
    assert_eq!(remove_chain(&view("", &[]), "M"), None);
}

#[test]
fn original_jumps_come_back_to_their_places_even_if_rules_were_added_ahead() {
    let quoted = Rule::parse(QUOTED).unwrap();
    let original =
        ChainValue { jumps: vec![(1, quoted.clone()), (3, quoted)], rules: vec![Rule::parse("-j RETURN").unwrap()] };
    let (plain, foreign) = (format!("-A POSTROUTING {JUMP}"), "-A POSTROUTING -o a -j ACCEPT");
    let insert = |place: usize| format!("-I POSTROUTING {place} {QUOTED}");
    let append = format!("-A POSTROUTING {QUOTED}");
    let rows = [
        ("as before", vec![plain.as_str(), foreign], vec![insert(1), append.clone()]),
        ("one added ahead", vec![foreign, plain.as_str(), foreign], vec![insert(2), append.clone()]),
        ("two added behind", vec![plain.as_str(), foreign, foreign, foreign], vec![insert(1), insert(3)]),
        ("jump gone", vec![foreign], vec![insert(1), append.clone()]),
    ];
    for (name, rules, expected) in rows {
        let change =
            restore_original(&view(":M - [0:0]\n", &[rules.clone(), vec![EXEMPT, LAST]].concat()), "M", &original);
        let inserted =
            lines(&change).into_iter().filter(|line| line.contains("POSTROUTING") && !line.starts_with("-D"));
        assert_eq!(inserted.collect::<Vec<_>>(), expected, "{name}");
        let deleted = lines(&change).iter().filter(|line| line.starts_with("-D")).count();
        assert_eq!(deleted, usize::from(rules.contains(&plain.as_str())), "{name}");
    }
}
