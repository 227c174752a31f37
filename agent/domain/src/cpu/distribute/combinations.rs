//! Subsets of a fixed size, in lexicographic order of their members.

/// All subsets of `set` with `size` members; `{0,1}` comes before `{0,2}`, and that before `{1,2}`.
pub(in super::super) fn combinations(set: u64, size: usize) -> impl Iterator<Item = u64> {
    // With the highest member as the lowest bit, lexicographic order is descending numeric order of the subset, and so
    // ascending order of what is left out. The next larger number with as many bits is found by Gosper's rule.
    let total = set.count_ones();
    let full = if total == 0 { 0 } else { u64::MAX >> (64 - total) };
    let omitted = total.checked_sub(u32::try_from(size).unwrap_or(u32::MAX));
    let mut next = omitted.map(|omitted| if omitted == 0 { 0 } else { u64::MAX >> (64 - omitted) });
    std::iter::from_fn(move || {
        let left_out = next?;
        next = successor(left_out).filter(|successor| *successor <= full);
        Some(spread(full & !left_out, total, set))
    })
}

/// The next larger number with as many bits.
fn successor(number: u64) -> Option<u64> {
    let lowest = number & number.wrapping_neg();
    let ripple = number.checked_add(lowest)?;
    (lowest != 0).then(|| ripple | ((number ^ ripple) >> 2).checked_div(lowest).unwrap_or(0))
}

/// Moves bit `total - 1 - i` of the subset to the *i*-th lowest bit of `set`.
fn spread(subset: u64, total: u32, set: u64) -> u64 {
    if total == 0 {
        return 0;
    }
    let ranks = subset.reverse_bits() >> (64 - total);
    if set == u64::MAX >> (64 - total) {
        return ranks;
    }
    let (mut result, mut rest, mut rank) = (0, set, 0);
    while rest != 0 {
        let bit = rest & rest.wrapping_neg();
        if ranks >> rank & 1 == 1 {
            result |= bit;
        }
        rest ^= bit;
        rank += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_come_in_the_order_of_their_members() {
        let rows: [(u64, usize, &[u64]); 6] = [
            (0b111, 1, &[0b001, 0b010, 0b100]),
            (0b111, 2, &[0b011, 0b101, 0b110]),
            (0b111, 3, &[0b111]),
            (0b1_0110, 2, &[0b0_0110, 0b1_0010, 0b1_0100]),
            (0b11, 3, &[]),
            (u64::MAX, 64, &[u64::MAX]),
        ];
        for (set, size, expected) in rows {
            assert_eq!(combinations(set, size).collect::<Vec<_>>(), expected, "{size} of {set:b}");
        }
        assert_eq!(combinations(u64::MAX, 2).count(), 64 * 63 / 2);
    }
}
