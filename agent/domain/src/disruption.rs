//! How many nodes may be disrupted at a time: places that nodes take in turn.
//!
//! A place has one holder. It is anybody's once it is free, or once nobody has renewed it for as long as it lasts, measured
//! by the clock of whoever wants it from the moment when that one first saw it unchanged: clocks of nodes are never compared.

use std::time::Duration;

/// One place, as a node that wants it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Who has it; empty: nobody.
    pub holder: String,
    /// For how long this node has seen it unchanged.
    pub unchanged: Duration,
    /// How long it lasts without being renewed.
    pub lasts: Duration,
}

impl Place {
    fn is_free(&self) -> bool {
        self.holder.is_empty()
    }

    fn is_over(&self) -> bool {
        self.unchanged >= self.lasts
    }
}

/// What a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has this place, by its number from 0, and should renew it.
    Holds(usize),
    /// It may try to take this place; whoever is first gets it.
    MayTake(usize),
    /// All are taken.
    Waits,
}

/// What `me` may do about these places, all that there are.
#[must_use]
pub fn turn(places: &[Place], me: &str) -> Turn {
    let find = |fits: &dyn Fn(&Place) -> bool| places.iter().position(fits);
    if let Some(own) = find(&|place| place.holder == me) {
        return Turn::Holds(own);
    }
    find(&Place::is_free).or_else(|| find(&Place::is_over)).map_or(Turn::Waits, Turn::MayTake)
}

/// Whether one more node may go away: those of the others that are not ready count against the budget.
#[must_use]
pub const fn has_room(others_not_ready: usize, most: u32) -> bool {
    others_not_ready < most as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LASTS: u64 = 10;

    fn place(holder: &str, unchanged: u64) -> Place {
        Place { holder: holder.into(), unchanged: Duration::from_secs(unchanged), lasts: Duration::from_secs(LASTS) }
    }

    #[test]
    fn a_place_is_taken_if_it_is_free_or_over_and_kept_if_it_is_ours() {
        let cases = [
            ("no places", vec![], Turn::Waits),
            ("free", vec![place("", 0)], Turn::MayTake(0)),
            ("taken", vec![place("b", 9)], Turn::Waits),
            ("over", vec![place("b", 10)], Turn::MayTake(0)),
            ("free before over", vec![place("b", 99), place("", 0)], Turn::MayTake(1)),
            ("ours before all", vec![place("", 0), place("a", 99)], Turn::Holds(1)),
        ];
        for (name, places, expected) in cases {
            assert_eq!(turn(&places, "a"), expected, "{name}");
        }
    }

    #[test]
    fn nodes_that_are_not_ready_use_up_the_budget() {
        for (others, most, expected) in [(0, 1, true), (1, 1, false), (1, 2, true), (5, 2, false), (0, 0, false)] {
            assert_eq!(has_room(others, most), expected, "{others} of {most}");
        }
    }

    /// An object with optimistic concurrency, and the moment of its last write.
    #[derive(Debug, Clone, Default)]
    struct Object {
        holder: String,
        version: u32,
        written: u64,
    }

    /// A node: what it read of each place, since when it has seen that version, and its last write to a place.
    #[derive(Debug, Clone)]
    struct Node {
        read: Vec<(Object, u64)>,
        wrote: Option<(usize, u64)>,
    }

    impl Node {
        fn look(&mut self, places: &[Object], now: u64) {
            for (known, object) in self.read.iter_mut().zip(places) {
                if known.0.version != object.version {
                    *known = (object.clone(), now);
                }
            }
        }

        fn act(&mut self, me: &str, places: &mut [Object], now: u64) {
            let seen: Vec<Place> = self.read.iter().map(|(object, since)| place(&object.holder, now - since)).collect();
            let number = match turn(&seen, me) {
                Turn::Holds(number) | Turn::MayTake(number) => number,
                Turn::Waits => return,
            };
            if self.read[number].0.version == places[number].version {
                places[number] = Object { holder: me.into(), version: places[number].version + 1, written: now };
                self.wrote = Some((number, now));
            }
        }
    }

    proptest! {
        /// Whoever reads, writes, sleeps or dies when: two nodes never trust in the same place at a time.
        #[test]
        fn there_are_never_more_holders_than_places(
            count in 1_usize..4,
            events in proptest::collection::vec((0_usize..6, 0_u8..3, 0_u64..6), 1..200),
        ) {
            let mut places = vec![Object::default(); count];
            let mut nodes = vec![Node { read: vec![(Object::default(), 0); count], wrote: None }; 6];
            let mut now = 0;
            for (who, what, time) in events {
                now += time;
                let (node, me) = (&mut nodes[who], format!("n{who}"));
                match what {
                    0 => node.look(&places, now),
                    1 => node.act(&me, &mut places, now),
                    _ => {
                        node.look(&places, now);
                        node.act(&me, &mut places, now);
                    }
                }
                let trusting = |node: &&Node| node.wrote.is_some_and(|(_, at)| now - at < LASTS);
                let holders: Vec<usize> = nodes.iter().filter(trusting).filter_map(|node| Some(node.wrote?.0)).collect();
                let distinct: std::collections::BTreeSet<&usize> = holders.iter().collect();
                prop_assert_eq!(holders.len(), distinct.len(), "two trust in one place: {:?}", nodes);
                prop_assert!(places.iter().all(|place| place.written <= now));
            }
        }
    }
}
