//! Rules there and back.
#![allow(clippy::unwrap_used, reason = "tests")]

use trimtab_domain::masquerade::Share;

use super::*;

fn rules() -> Vec<Rule> {
    let plain = Masquerading { protocol: None, share: None, ports: None, random_fully: false };
    let share = Some(Share { part: 28_976, whole: 61_744 });
    let pool = |first: &str, last: &str| Some(Pool { first: first.parse().unwrap(), last: last.parse().unwrap() });
    let mut rules = vec![Rule::Jump, Rule::Exempt, Rule::NotFrom, Rule::Masquerade(plain, None)];
    rules.push(Rule::Except(Exception::Interface("eth0".into())));
    rules.push(Rule::Except(Exception::Mark { value: 0x4000, mask: 0xffff }));
    rules.push(Rule::Masquerade(plain, pool("192.0.2.1", "192.0.2.9")));
    rules.push(Rule::Masquerade(plain, pool("2001:db8::1", "2001:db8::1")));
    for protocol in PortProtocol::ALL {
        let rule = Masquerading { protocol: Some(protocol), ports: Some((1024, 65_535)), ..plain };
        rules.push(Rule::Masquerade(rule, None));
        rules.push(Rule::Masquerade(rule, pool("192.0.2.1", "192.0.2.1")));
        rules.push(Rule::Except(Exception::Ports { protocol, first: 80, last: 90 }));
        let single = Masquerading { ports: Some((4000, 4000)), ..rule };
        rules.push(Rule::Masquerade(single, None));
        rules.push(Rule::Masquerade(single, pool("192.0.2.1", "192.0.2.1")));
        rules.push(Rule::Masquerade(Masquerading { share, random_fully: true, ..rule }, None));
    }
    rules
}

#[test]
fn every_rule_is_read_back() {
    for family in Family::ALL {
        for rule in rules() {
            let bytes = rule.expressions(family);
            assert_eq!(Rule::parse(Received(bytes.as_bytes()), family), rule, "{family}");
        }
    }
}

#[test]
fn any_other_byte_is_another_rule_or_none_of_ours() {
    for rule in rules() {
        let whole = rule.expressions(Family::V4);
        for at in 0..whole.as_bytes().len() {
            let mut bytes = whole.as_bytes().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x55;
            }
            // Padding, counters and the flags of attribute types carry no meaning; nothing may panic.
            let _ = Rule::parse(Received(&bytes), Family::V4);
            let cut = bytes.get(..at).unwrap_or_default();
            let parsed = Rule::parse(Received(cut), Family::V4);
            assert!(parsed == Rule::Other || parsed != rule || at + 4 > bytes.len(), "{rule:?} cut at {at}");
        }
    }
    assert_eq!(Rule::parse(Received(&[]), Family::V4), Rule::Other);
    assert_eq!(Rule::parse(Received(Rule::Exempt.expressions(Family::V6).as_bytes()), Family::V4), Rule::Other);
}
