//! Finds the name that was probably meant.

/// The candidate closest to `word`, unless even that one is too far away to be a slip of the finger.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    if wanted.chars().count() > LONGEST_WORD {
        return None;
    }
    let limit = match wanted.chars().count() {
        0..=3 => 0,
        length => (length / 3).min(4),
    };
    candidates
        .into_iter()
        .map(|name| (distance(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Longer words are not compared: no field is that long.
const LONGEST_WORD: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut previous_char = None;
    for (row, l) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, r) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (at(&last, column) + usize::from(l != *r)).min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            let before = column.checked_sub(1).and_then(|index| right.get(index));
            if before == Some(&l) && previous_char == Some(*r) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous_char = Some(l);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{closest, distance};

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let fields = ["cpuManagerPolicy", "cpuManagerPolicyOptions", "sysctls", "kernel"];
        let rows = [
            ("sysctl", Some("sysctls")),
            ("SYSCTLS", Some("sysctls")),
            ("eks", None),
            ("kernle", Some("kernel")),
            ("cpuManagerPolciy", Some("cpuManagerPolicy")),
            ("replicas", None),
            ("", None),
        ];
        for (word, expected) in rows {
            assert_eq!(closest(word, fields), expected, "{word}");
        }
    }

    #[test]
    fn distances_count_single_slips() {
        let rows = [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("same", "same", 0)];
        for (left, right, expected) in rows {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
