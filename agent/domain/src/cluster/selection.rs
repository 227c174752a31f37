//! Which of the cluster's profiles is this node's, and why.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::label::LabelSelector;

/// Highest `spec.weight`; the lowest, and that of a profile that has none, is 0.
pub const MAX_WEIGHT: u32 = 1000;

/// Whom a profile is for, and how much it counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// The nodes; empty: all.
    pub selector: LabelSelector,
    /// From 0 to [`MAX_WEIGHT`]; of several profiles for a node the heaviest wins.
    pub weight: u32,
}

/// A profile that might be this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whom it is for; `Err`: that cannot be read, so it is for nobody.
    pub reach: Result<&'a Reach, &'a str>,
}

/// What was decided of the profiles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// The profile of this node; `None`: none is for it.
    pub winner: Option<String>,
    /// Why that one, in one sentence.
    pub why: String,
    /// Every profile by name, with what became of it.
    pub verdicts: Vec<Verdict>,
}

/// What became of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its name.
    pub profile: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Why, in a few words.
    pub why: String,
}

/// What can become of a profile on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is in force.
    Won,
    /// It is for this node, and another one goes before it.
    Outweighed,
    /// It is not for this node.
    NotSelected,
    /// Whom it is for cannot be read.
    Unreadable,
}

impl Outcome {
    /// The word in objects and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "Won",
            Self::Outweighed => "Outweighed",
            Self::NotSelected => "NotSelected",
            Self::Unreadable => "Unreadable",
        }
    }
}

/// Chooses for a node with these labels: the heaviest that selects it, of equal ones the first by name, so that every
/// agent and every person comes to the same result, whatever was made first.
#[must_use]
pub fn choose(labels: &BTreeMap<String, String>, candidates: &[Candidate<'_>]) -> Choice {
    let selecting =
        |candidate: &&Candidate<'_>| candidate.reach.is_ok_and(|reach| reach.selector.unmet(labels).is_none());
    let weight = |candidate: &Candidate<'_>| candidate.reach.map_or(0, |reach| reach.weight);
    let winner = candidates.iter().filter(selecting).min_by_key(|one| (Reverse(weight(one)), one.name));
    let verdict = |candidate: &Candidate<'_>| {
        let (outcome, why) = match (candidate.reach, winner) {
            (Err(problem), _) => (Outcome::Unreadable, problem.to_owned()),
            (Ok(reach), winner) => match (reach.selector.unmet(labels), winner) {
                (Some(unmet), _) => (Outcome::NotSelected, unmet),
                (None, Some(winner)) if winner.name != candidate.name => {
                    (Outcome::Outweighed, lost_to(candidate, winner, weight))
                }
                (None, _) => (Outcome::Won, format!("weight {}", reach.weight)),
            },
        };
        Verdict { profile: candidate.name.to_owned(), outcome, why }
    };
    let mut verdicts: Vec<Verdict> = candidates.iter().map(verdict).collect();
    verdicts.sort_by(|a, b| (a.outcome, &a.profile).cmp(&(b.outcome, &b.profile)));
    Choice { winner: winner.map(|winner| winner.name.to_owned()), why: explain(&verdicts), verdicts }
}

fn lost_to(loser: &Candidate<'_>, winner: &Candidate<'_>, weight: impl Fn(&Candidate<'_>) -> u32) -> String {
    let (lost, won) = (weight(loser), weight(winner));
    if lost == won {
        format!("weight {lost} as {}, which comes first by name", winner.name)
    } else {
        format!("weight {lost}, {} has {won}", winner.name)
    }
}

fn explain(verdicts: &[Verdict]) -> String {
    let of = |outcome: Outcome| verdicts.iter().filter(move |verdict| verdict.outcome == outcome);
    let Some(won) = of(Outcome::Won).next() else {
        return format!("none of {} profiles selects this node", verdicts.len());
    };
    let others: Vec<String> = of(Outcome::Outweighed).take(3).map(|v| format!("{} ({})", v.profile, v.why)).collect();
    let more = of(Outcome::Outweighed).count().saturating_sub(others.len());
    match (others.is_empty(), more) {
        (true, _) => format!("{} is the only profile that selects this node", won.profile),
        (false, 0) => format!("{} goes before {}", won.profile, others.join(", ")),
        (false, more) => format!("{} goes before {} and {more} more", won.profile, others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reach(pool: &str, weight: u32) -> Reach {
        let match_labels =
            if pool.is_empty() { BTreeMap::new() } else { [("pool".to_owned(), pool.to_owned())].into() };
        Reach { selector: LabelSelector { match_labels, ..LabelSelector::default() }, weight }
    }

    fn choice(profiles: &[(&str, Result<Reach, &str>)]) -> Choice {
        let candidates: Vec<Candidate<'_>> = profiles
            .iter()
            .map(|(name, reach)| Candidate { name, reach: reach.as_ref().map_err(|error| *error) })
            .collect();
        choose(&[("pool".to_owned(), "web".to_owned())].into(), &candidates)
    }

    #[test]
    fn the_heaviest_that_selects_the_node_wins_and_ties_go_by_name() {
        type Offered<'a> = &'a [(&'a str, Result<Reach, &'a str>)];
        let cases: [(&str, Offered<'_>, Option<&str>); 6] = [
            ("none at all", &[], None),
            ("none for this node", &[("a", Ok(reach("db", 9)))], None),
            ("the only one", &[("a", Ok(reach("db", 9))), ("b", Ok(reach("web", 0)))], Some("b")),
            ("the heavier", &[("a", Ok(reach("web", 1))), ("b", Ok(reach("", 2)))], Some("b")),
            ("equal weight", &[("b", Ok(reach("web", 5))), ("a", Ok(reach("", 5)))], Some("a")),
            ("an unreadable one is for nobody", &[("a", Err("bad")), ("b", Ok(reach("", 0)))], Some("b")),
        ];
        for (name, profiles, expected) in cases {
            assert_eq!(choice(profiles).winner.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn each_profile_has_a_verdict_that_says_why() {
        let choice = choice(&[
            ("web", Ok(reach("web", 10))),
            ("web-old", Ok(reach("web", 10))),
            ("all", Ok(reach("", 0))),
            ("db", Ok(reach("db", 50))),
            ("broken", Err("nodeSelector: wrong type")),
        ]);
        let verdicts: Vec<(&str, Outcome, &str)> =
            choice.verdicts.iter().map(|v| (v.profile.as_str(), v.outcome, v.why.as_str())).collect();
        assert_eq!(
            verdicts,
            [
                ("web", Outcome::Won, "weight 10"),
                ("all", Outcome::Outweighed, "weight 0, web has 10"),
                ("web-old", Outcome::Outweighed, "weight 10 as web, which comes first by name"),
                ("db", Outcome::NotSelected, "label pool is \"web\", not \"db\""),
                ("broken", Outcome::Unreadable, "nodeSelector: wrong type"),
            ]
        );
        let why = "web goes before all (weight 0, web has 10), web-old (weight 10 as web, which comes first by name)";
        assert_eq!(choice.why, why);
    }

    proptest! {
        #[test]
        fn the_choice_does_not_depend_on_the_order(weights in proptest::collection::vec(0_u32..4, 1..8), turn in 0_usize..8) {
            let names: Vec<String> = (0..weights.len()).map(|n| format!("p{n}")).collect();
            let reaches: Vec<Reach> = weights.iter().map(|weight| reach("", *weight)).collect();
            let all: Vec<Candidate<'_>> =
                names.iter().zip(&reaches).map(|(name, reach)| Candidate { name, reach: Ok(reach) }).collect();
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len());
            prop_assert_eq!(choose(&BTreeMap::new(), &all), choose(&BTreeMap::new(), &turned));
        }
    }
}
