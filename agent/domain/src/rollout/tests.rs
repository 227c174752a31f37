use std::collections::BTreeSet;

use super::*;

fn canary() -> Rollout {
    let step = |percent, soak| RolloutStep { percent, soak };
    Rollout { steps: vec![step(1, 600), step(10, 1800), step(50, 3600)], max_unhealthy_percent: Some(10) }
}

#[test]
fn a_node_follows_at_the_step_of_its_position() {
    let cases = [
        (0, 1000, Verdict::Now),
        (99, 1000, Verdict::Now),
        (100, 1000, Verdict::NotBefore(1600)),
        (100, 1600, Verdict::Now),
        (999, 1599, Verdict::NotBefore(1600)),
        (1000, 1600, Verdict::NotBefore(3400)),
        (4999, 3400, Verdict::Now),
        (5000, 3400, Verdict::NotBefore(7000)),
        (9999, 7000, Verdict::Now),
        (0, 0, Verdict::Now),
        (100, 0, Verdict::NotBefore(1600)),
    ];
    for (position, now, expected) in cases {
        assert_eq!(verdict(&canary(), position, Health::default(), 1000, now), expected, "{position} at {now}");
    }
}

#[test]
fn without_steps_all_nodes_follow_at_once() {
    assert_eq!(verdict(&Rollout::default(), 9999, Health { updated: 1, unwell: 1 }, 5, 5), Verdict::Now);
}

#[test]
fn unwell_nodes_stop_the_change_for_all_that_do_not_have_it() {
    let ill = Health { updated: 20, unwell: 3 };
    assert!(matches!(verdict(&canary(), 5000, ill, 0, 999_999), Verdict::Stopped(why) if why.contains("3 of 20")));
    assert_eq!(verdict(&canary(), 5000, Health { updated: 20, unwell: 2 }, 0, 999_999), Verdict::Now);
    // The first step goes first whatever old reports say.
    assert_eq!(verdict(&canary(), 5, ill, 0, 0), Verdict::Now);
}

#[test]
fn the_order_is_even_and_another_one_for_each_change() {
    let nodes: Vec<String> = (0..5000).map(|number| format!("aks-pool1-12345678-vmss{number:06}")).collect();
    let first = |change: &str| -> BTreeSet<&String> {
        nodes.iter().filter(|node| position(node, change) < POSITIONS / 10).collect()
    };
    let (one, two) = (first("uid/1"), first("uid/2"));
    for part in [&one, &two] {
        assert!((400..600).contains(&part.len()), "a tenth of 5,000 is not {}", part.len());
    }
    assert!(one.intersection(&two).count() < 100, "the same nodes go first each time");
    assert!(nodes.iter().all(|node| position(node, "x") < POSITIONS));
}
