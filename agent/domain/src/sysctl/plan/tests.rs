//! Plans against a small model of the kernel: whatever is asked in whatever order, one pass suffices, nothing is left
//! to do after it, and in the end everything is as it was, also if the agent was stopped in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::order;
use super::*;
use crate::record::Record;

/// Keys that depend on one another in every way that is known, and one that does not.
const KEYS: [&str; 14] = [
    "net.core.somaxconn",
    "vm.max_map_count",
    "vm.dirty_bytes",
    "vm.dirty_ratio",
    "vm.overcommit_kbytes",
    "vm.overcommit_ratio",
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.eth0.forwarding",
    "net.ipv4.conf.eth1.forwarding",
    "net.ipv4.neigh.default.gc_thresh1",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh3",
];
/// What the model's kernel makes of larger values of `vm.max_map_count`.
const CLAMP: u64 = 500;

fn key(name: &str) -> SysctlKey {
    SysctlKey::parse(name).unwrap()
}

/// A kernel and a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    values: BTreeMap<SysctlKey, String>,
    records: BTreeMap<String, Record>,
}

impl Model {
    fn seen(&self) -> Observation {
        let shown = self.values.iter().map(|(key, text)| (key.clone(), Shown::Value(text.clone(), Access::Writable)));
        Observation {
            shown: shown.collect(),
            records: self.records.values().cloned().collect(),
            ..Observation::default()
        }
    }

    fn plan(&self, spec: &SysctlsSpec) -> Plan<SysctlStep> {
        plan(spec, &self.seen())
    }

    /// What the real kernel does: rejects 0 for bytes and thresholds out of order, clamps, reaches other keys.
    fn write(&mut self, key: &SysctlKey, text: &str) {
        let number: u64 = text.parse().unwrap();
        assert!(number > 0 || !key.as_str().contains("bytes"), "EINVAL: {key} = {text}");
        let text = if key.as_str() == "vm.max_map_count" { number.min(CLAMP).to_string() } else { text.to_owned() };
        let reached: Vec<(SysctlKey, String)> = self
            .values
            .keys()
            .filter_map(|other| side_effect::on(other, key, &text).map(|effect| (other.clone(), effect)))
            .collect();
        self.values.extend(reached);
        self.values.insert(key.clone(), text);
        let levels: Vec<u64> = (1..=3).map(|n| self.number(&format!("net.ipv4.neigh.default.gc_thresh{n}"))).collect();
        assert!(levels.is_sorted(), "thresholds out of order after {key}: {levels:?}");
    }

    fn number(&self, name: &str) -> u64 {
        self.values[&key(name)].parse().unwrap()
    }

    fn apply(&mut self, step: &SysctlStep) {
        match step {
            SysctlStep::Remember(records) => {
                for record in records {
                    let original = self.records.get(&record.object).map_or(&record.original, |known| &known.original);
                    let record = Record { original: original.clone(), ..record.clone() };
                    self.records.insert(record.object.clone(), record);
                }
            }
            SysctlStep::Write(write) => {
                assert!(self.records.contains_key(write.key.as_str()), "{step} before it was remembered");
                self.write(&write.key, &write.text);
                let shown = self.values[&write.key].clone();
                if !value::same(&write.wish, &shown) {
                    let ordered = Ordered { read_back: Some(shown), ..Ordered::new(&write.wish) };
                    self.records.get_mut(write.key.as_str()).unwrap().ordered = ordered.to_text();
                }
            }
            SysctlStep::GiveBack { key, to, .. } => self.write(key, to),
            SysctlStep::Forget(forgotten) => {
                for forgotten in forgotten {
                    assert_eq!(forgotten.left, Left::Original, "{step}");
                    self.records.remove(&forgotten.object);
                }
            }
        }
    }

    /// One pass, or its first steps only.
    fn pass(&mut self, spec: &SysctlsSpec, stop_after: usize) {
        for step in self.plan(spec).steps().take(stop_after) {
            self.apply(step);
        }
    }
}

/// A kernel before anybody asked for anything.
fn model() -> impl Strategy<Value = Model> {
    let pair = (any::<bool>(), 1..40u64);
    (pair.clone(), pair, 0..2u8, prop::array::uniform3(0..2u8), prop::array::uniform3(1..100u64)).prop_map(
        |(dirty, overcommit, forward, flags, mut levels)| {
            levels.sort_unstable();
            let either = |(bytes, number): (bool, u64)| if bytes { (number * 8192, 0) } else { (0, number) };
            let (dirty, overcommit) = (either(dirty), either(overcommit));
            let texts = [
                128,
                60,
                dirty.0,
                dirty.1,
                overcommit.0,
                overcommit.1,
                u64::from(forward),
                u64::from(forward),
                u64::from(flags[0]),
                u64::from(flags[1]),
                u64::from(flags[2]),
                levels[0],
                levels[1],
                levels[2],
            ];
            let values = KEYS.iter().zip(texts).map(|(name, number)| (key(name), number.to_string())).collect();
            Model { values, records: BTreeMap::new() }
        },
    )
}

/// A section that asks for some of the keys. Thresholds are asked for together, so that the kernel can take them.
fn section() -> impl Strategy<Value = SysctlsSpec> {
    let flags = prop::collection::btree_map(prop::sample::select(KEYS[6..11].to_vec()), 0..2u64, 0..4);
    let numbers = prop::collection::btree_map(prop::sample::select(KEYS[..6].to_vec()), 1..1000u64, 0..5);
    let levels = prop::option::of(prop::array::uniform3(1..100u64));
    (flags, numbers, levels).prop_map(|(flags, numbers, levels)| {
        let mut values: BTreeMap<String, String> =
            flags.into_iter().chain(numbers).map(|(name, number)| (name.to_owned(), number.to_string())).collect();
        if let Some(mut levels) = levels {
            levels.sort_unstable();
            values.extend(KEYS[11..].iter().zip(levels).map(|(name, level)| ((*name).to_owned(), level.to_string())));
        }
        SysctlsSpec { values, policy: None }
    })
}

proptest! {
    #[test]
    fn one_pass_suffices_and_the_end_is_as_the_beginning(before in model(), sections in prop::collection::vec(section(), 1..4)) {
        let mut now = before.clone();
        for section in &sections {
            now.pass(section, usize::MAX);
            let left: Vec<String> = now.plan(section).steps().map(ToString::to_string).collect();
            prop_assert!(left.is_empty(), "left {:?}", left);
        }
        now.pass(&SysctlsSpec::default(), usize::MAX);
        prop_assert_eq!(now, before);
    }

    #[test]
    fn a_stop_anywhere_loses_nothing(
        before in model(),
        stopped in prop::collection::vec((section(), 0..12usize), 1..4),
        rollback_after in 0..12usize,
    ) {
        let mut now = before.clone();
        for (section, steps) in &stopped {
            now.pass(section, *steps);
        }
        // The roll-back, too, is stopped once.
        now.pass(&SysctlsSpec::default(), rollback_after);
        now.pass(&SysctlsSpec::default(), usize::MAX);
        prop_assert_eq!(now, before);
    }

    #[test]
    fn drift_is_healed_in_one_pass(before in model(), section in section(), drift in prop::sample::select(KEYS[..11].to_vec()), to in 1..2u64) {
        let mut now = before.clone();
        now.pass(&section, usize::MAX);
        let held = now.clone();
        now.write(&key(drift), &to.to_string());
        now.pass(&section, usize::MAX);
        prop_assert!(now.plan(&section).is_empty());
        for key in Wishes::resolve(&section, &BTreeMap::new()).wishes.keys() {
            prop_assert_eq!(&now.values[key], &held.values[key], "{}", key);
        }
    }
}

#[test]
fn groups_have_a_chain_each() {
    let asked = [
        ("net.core.somaxconn", "1024"),
        ("net.ipv4.neigh.default.gc_thresh1", "1000"),
        ("net.ipv4.neigh.default.gc_thresh3", "3000"),
        ("net.ipv4.neigh.default.gc_thresh2", "2000"),
    ];
    let values = KEYS.iter().map(|name| (key(name), "1".to_owned())).collect();
    let model = Model { values, records: BTreeMap::new() };
    let values = asked.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let plan = model.plan(&SysctlsSpec { values, policy: None });
    let chains: Vec<Vec<String>> =
        plan.stages[1].chains.iter().map(|chain| chain.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(
        chains,
        [
            vec!["net.core.somaxconn: 1 -> 1024".to_owned()],
            vec![
                "net.ipv4.neigh.default.gc_thresh3: 1 -> 3000".to_owned(),
                "net.ipv4.neigh.default.gc_thresh2: 1 -> 2000".to_owned(),
                "net.ipv4.neigh.default.gc_thresh1: 1 -> 1000".to_owned(),
            ],
        ]
    );
    assert_eq!(order::group_of(&key("net.core.somaxconn")), None);
}
