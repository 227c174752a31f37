//! Sets of address ranges in our tables.

use std::io;

use trimtab_domain::masquerade::{AddressRange, Family, last_address};

use super::objects::{DELETE_ELEMENTS, GET_ELEMENTS, NEW_ELEMENTS, NEW_SET, ask_for, named};
use super::wire::{Attributes, Batch, CREATE, Received, dump};
use super::{Message, family_number};

/// `NFT_SET_INTERVAL`, `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL: u32 = 4;
const INTERVAL_END: u32 = 1;
/// Ranges in one message: two elements of at most 44 bytes each; an attribute holds less than 64 KiB.
const RANGES_AT_ONCE: usize = 500;
/// Attributes, `enum nft_set_attributes`, `nft_set_elem_list_attributes`, `nft_set_elem_attributes`.
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const FLAGS: u16 = 3;
const VALUE: u16 = 1;

/// One set.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeSet {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// Tells it from others of one transaction.
    pub(super) number: u32,
}

impl RangeSet {
    /// Adds the set; one that is there stays as it is.
    pub(super) fn add(self, batch: &mut Batch, family: Family) {
        let (kind, length) = key(family);
        let set = self.named(SET_NAME).number(SET_FLAGS, INTERVAL).number(SET_KEY_TYPE, kind);
        let set = set.number(SET_KEY_LENGTH, length).number(SET_ID, self.number);
        batch.add("add a set of ranges", NEW_SET, CREATE, &set);
    }

    pub(super) fn empty(self, batch: &mut Batch) {
        batch.add("empty the set of ranges", DELETE_ELEMENTS, 0, &self.named(LIST_SET));
    }

    /// A range is an element where it starts and one where it has ended; one up to the highest address never ends.
    pub(super) fn add_ranges(self, batch: &mut Batch, family: Family, ranges: &[AddressRange]) {
        let element = |number: u128, flags: u32| {
            let key = Attributes::default().bytes(VALUE, &key_bytes(family, number));
            let element = Attributes::default().nested(KEY, &key);
            if flags == 0 { element } else { element.number(FLAGS, flags) }
        };
        for some in ranges.chunks(RANGES_AT_ONCE) {
            let mut elements = Attributes::default();
            for range in some {
                elements = elements.nested(ELEMENT, &element(range.first, 0));
                if range.last < last_address(family) {
                    elements = elements.nested(ELEMENT, &element(range.last + 1, INTERVAL_END));
                }
            }
            let list = self.named(LIST_SET).nested(LIST_ELEMENTS, &elements);
            batch.add("add ranges", NEW_ELEMENTS, CREATE, &list);
        }
    }

    pub(super) fn is_there(self, family: Family) -> io::Result<bool> {
        Ok(ask_for(Message::GetSet, family, &self.named(SET_NAME))?.is_some())
    }

    /// Whether it is there as [`Self::add`] makes it, so that it can be kept.
    pub(super) fn is_right(self, family: Family) -> io::Result<bool> {
        let (_, length) = key(family);
        let set = ask_for(Message::GetSet, family, &self.named(SET_NAME))?;
        let is_ours =
            |set: Received<'_>| set.number(SET_FLAGS) == Some(INTERVAL) && set.number(SET_KEY_LENGTH) == Some(length);
        Ok(set.is_some_and(|set| is_ours(Received(&set))))
    }

    /// Its ranges, joined; `None` if its elements make none.
    pub(super) fn read(self, family: Family) -> io::Result<Option<Vec<AddressRange>>> {
        Ok(ranges_of(&dump(GET_ELEMENTS, family_number(family), &self.named(LIST_SET))?, family))
    }

    fn named(self, kind: u16) -> Attributes {
        named(self.table, kind, self.name)
    }
}

/// The ranges in the element lists that the kernel listed.
pub(super) fn ranges_of(listed: &[Vec<u8>], family: Family) -> Option<Vec<AddressRange>> {
    let (_, length) = key(family);
    let mut bounds = Vec::new();
    for (_, element) in listed.iter().filter_map(|list| Received(list).nested(LIST_ELEMENTS)).flat_map(Received::each) {
        let element = Received(element);
        let key = element.nested(KEY).and_then(|key| key.find(VALUE));
        let key = key.filter(|key| u32::try_from(key.len()) == Ok(length))?;
        let number = key.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        bounds.push((number, element.number(FLAGS).unwrap_or(0) & INTERVAL_END == 0));
    }
    pair_up(bounds, family)
}

/// nft's own number of the type (`ipv4_addr`, `ipv6_addr`), so that its listings are readable, and bytes of an address.
const fn key(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    }
}

fn key_bytes(family: Family, number: u128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let (_, length) = key(family);
    let skip = usize::try_from(length).map_or(0, |length| bytes.len().saturating_sub(length));
    bytes.get(skip..).unwrap_or_default().to_vec()
}

/// Starts and ends to ranges; at the same address an end comes before a start. `nft` writes an end at the lowest address,
/// which ends nothing.
fn pair_up(mut bounds: Vec<(u128, bool)>, family: Family) -> Option<Vec<AddressRange>> {
    bounds.sort_unstable();
    let mut ranges: Vec<AddressRange> = Vec::new();
    let mut open = None;
    for (number, is_start) in bounds {
        match (is_start, open.take()) {
            (true, None) => open = Some(number),
            (true, Some(_)) => return None,
            (false, Some(first)) => push_joined(&mut ranges, AddressRange { first, last: number.checked_sub(1)? }),
            (false, None) if number == 0 => {}
            (false, None) => return None,
        }
    }
    if let Some(first) = open {
        push_joined(&mut ranges, AddressRange { first, last: last_address(family) });
    }
    Some(ranges)
}

fn push_joined(ranges: &mut Vec<AddressRange>, range: AddressRange) {
    match ranges.last_mut() {
        Some(before) if before.last.checked_add(1) == Some(range.first) => before.last = range.last,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn starts_and_ends_make_ranges() {
        let range = |first, last| AddressRange { first, last };
        let last = last_address(Family::V4);
        let rows = [
            ("none", vec![], Some(vec![])),
            ("one", vec![(20, false), (10, true)], Some(vec![range(10, 19)])),
            ("nft's first end", vec![(0, false), (10, true), (20, false)], Some(vec![range(10, 19)])),
            ("touching", vec![(10, true), (20, false), (20, true), (30, false)], Some(vec![range(10, 29)])),
            ("to the last address", vec![(10, true)], Some(vec![range(10, last)])),
            ("two starts", vec![(10, true), (20, true)], None),
            ("an end of nothing", vec![(10, false)], None),
        ];
        for (name, bounds, expected) in rows {
            assert_eq!(pair_up(bounds, Family::V4), expected, "{name}");
        }
    }
}
