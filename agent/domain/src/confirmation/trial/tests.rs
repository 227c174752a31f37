#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn change(since: u64, reached: &[(&str, bool)]) -> Pending {
    let reached_before = reached.iter().map(|(target, reached)| ((*target).to_owned(), *reached)).collect();
    Pending { since, deadline: 60, reached_before }
}

fn objects(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// On trial with `b`, after `a` was confirmed.
fn on_trial() -> Trials<&'static str> {
    let mut trials = Trials::default();
    trials.take(&"a", 0);
    trials.take(&"b", 10);
    trials.begin(&objects(&["x"]), change(10, &[("api", true)]));
    trials
}

#[test]
fn a_profile_that_was_held_is_what_comes_back() {
    let mut trials = on_trial();
    assert_eq!((trials.before, trials.pending().unwrap().since), (Some("a"), 10));
    trials.take_back("cut off".to_owned());
    assert_eq!((trials.refused(), trials.before), (Some("cut off"), Some("a")));
    assert!(!trials.is_news(&objects(&["y"])), "what is held now was confirmed");
    // Another one after it: what was refused is never what comes back.
    assert!(trials.take(&"c", 100));
    assert_eq!((trials.refused(), trials.before), (None, Some("a")));
}

#[test]
fn the_first_profile_of_all_has_nothing_before_it() {
    let mut trials = Trials::default();
    assert!(!trials.is_news(&objects(&["x"])), "nothing is in force");
    assert!(trials.take(&"a", 0));
    assert!(!trials.take(&"a", 1));
    trials.begin(&objects(&["x"]), change(1, &[("api", true)]));
    trials.take_back("cut off".to_owned());
    assert_eq!(trials.before, None);
}

#[test]
fn what_was_confirmed_is_brought_back_without_a_trial_and_what_is_new_is_not() {
    let mut trials = on_trial();
    assert!(!trials.is_news(&objects(&["x"])));
    trials.confirm();
    assert_eq!(trials.pending(), None);
    assert!(!trials.is_news(&objects(&["x"])), "drift is healed");
    assert!(trials.is_news(&objects(&["x", "y"])), "an interface came");
    trials.take(&"c", 20);
    assert!(trials.is_news(&objects(&["x"])), "another profile");
}

#[test]
fn a_trial_goes_on_under_the_next_profile_with_what_was_known_before_it() {
    let mut trials = on_trial();
    trials.take(&"c", 50);
    assert_eq!((trials.before, trials.pending().unwrap().since), (Some("a"), 50));
    trials.begin(&objects(&["y"]), change(51, &[("api", false), ("dns", false)]));
    let reached = &trials.pending().unwrap().reached_before;
    assert_eq!(reached.values().copied().collect::<Vec<bool>>(), [true, false]);
}

#[test]
fn a_change_that_nothing_can_prove_is_not_waited_for() {
    let mut trials = Trials::default();
    trials.take(&"a", 0);
    trials.begin(&objects(&["x"]), change(0, &[("api", false)]));
    assert_eq!(trials.pending(), None);
    assert!(!trials.is_news(&objects(&["x"])));
}

#[test]
fn the_deadline_is_over_when_its_time_has_gone_by_and_not_by_a_clock_that_was_set_back() {
    let pending = change(100, &[]);
    for (now, over) in [(50, false), (100, false), (159, false), (160, true), (9_999, true)] {
        assert_eq!(pending.is_over(now), over, "{now}");
    }
}
