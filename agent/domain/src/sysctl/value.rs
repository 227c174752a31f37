//! When two values are the same to the kernel, and what is written to it.
//!
//! A wish is read as the kernel reads it (`proc_get_long` in kernel/sysctl.c: base 0, so `0x10` is 16 and `010` is 8).
//! What the kernel *shows* is taken as a number only in the one form in which it prints numbers: decimal, no sign but a
//! minus, no leading zero. Anything else (bit masks such as `00000010`, words) is compared as text, because a mask
//! read as a number would make different values equal.

/// Longest value in bytes; the kernel takes less for nearly all keys.
pub const MAX_BYTES: usize = 65_536;

/// Why a text cannot be written to any key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A line break, NUL or another control character; blanks and tabs are fine.
    #[error("the value contains {character:?}; write one line without control characters")]
    Character {
        /// The first such character.
        character: char,
    },
    /// Longer than 65536 bytes.
    #[error("the value has {bytes} bytes; at most 65536 are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Checks a wish and takes the white space off its ends.
///
/// # Errors
/// [`ValueError`] for texts that no key takes.
pub fn checked(wish: &str) -> Result<String, ValueError> {
    if wish.len() > MAX_BYTES {
        return Err(ValueError::TooLong { bytes: wish.len() });
    }
    match wish.chars().find(|c| c.is_control() && *c != '\t') {
        Some(character) => Err(ValueError::Character { character }),
        None => Ok(wish.trim().to_owned()),
    }
}

/// Fields with one blank between them: the kernel separates the numbers of a vector with tabs and ends with a line feed.
#[must_use]
pub fn collapsed(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// True if the kernel shows what was wished for.
#[must_use]
pub fn same(wish: &str, shown: &str) -> bool {
    let (mut wishes, mut fields) = (wish.split_ascii_whitespace(), shown.split_ascii_whitespace());
    loop {
        match (wishes.next(), fields.next()) {
            (None, None) => return true,
            (Some(wish), Some(field)) if same_field(wish, field) => {}
            _ => return false,
        }
    }
}

fn same_field(wish: &str, field: &str) -> bool {
    wish == field || shown_number(field).is_some_and(|number| wished_number(wish) == Some(number))
}

/// The text to write: numbers in plain decimal where the kernel shows numbers, else as wished.
#[must_use]
pub fn for_kernel(wish: &str, shown: &str) -> String {
    let numeric = !shown.trim().is_empty() && shown.split_ascii_whitespace().all(|field| shown_number(field).is_some());
    if !numeric {
        return wish.trim().to_owned();
    }
    let plain = |field: &str| wished_number(field).map_or_else(|| field.to_owned(), |number| number.to_string());
    wish.split_ascii_whitespace().map(plain).collect::<Vec<_>>().join(" ")
}

/// The number at a place of a vector, if the text is one.
#[must_use]
pub fn number_at(text: &str, index: usize) -> Option<i128> {
    text.split_ascii_whitespace().nth(index).and_then(wished_number)
}

/// True if a leading zero makes the kernel read another number than a person would: `010` is 8.
#[must_use]
pub fn is_octal_trap(wish: &str) -> bool {
    wish.split_ascii_whitespace().any(|field| {
        let decimal = field.trim_start_matches('0').parse::<i128>().ok();
        leads_with_zero(field) && decimal.is_some_and(|decimal| wished_number(field) != Some(decimal))
    })
}

fn leads_with_zero(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

/// A number in the form in which the kernel prints it.
fn shown_number(field: &str) -> Option<i128> {
    let digits = field.strip_prefix('-').unwrap_or(field);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !leads_with_zero(digits) && field != "-0";
    plain.then(|| bounded(digits, 10)).flatten().map(|number| if field.starts_with('-') { -number } else { number })
}

/// A number as the kernel reads it, and a plus sign or zeros before digits that are no octal number, which can be
/// meant in one way only.
fn wished_number(field: &str) -> Option<i128> {
    let (negative, digits) = match field.as_bytes().first() {
        Some(b'-') => (true, field.get(1..)?),
        Some(b'+') => (false, field.get(1..)?),
        _ => (false, field),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let number = match hex {
        Some(hex) => bounded(hex, 16)?,
        None if leads_with_zero(digits) => bounded(digits, 8).or_else(|| bounded(digits, 10))?,
        None => bounded(digits, 10)?,
    };
    Some(if negative { -number } else { number })
}

/// Digits alone (`from_str_radix` would take a sign), and no more than a kernel's unsigned long holds.
fn bounded(digits: &str, radix: u32) -> Option<i128> {
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten().map(i128::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_values_are_no_drift() {
        let rows = [
            ("1024", "1024\n", true),
            (" 1024 ", "1024\n", true),
            ("4096 131072 6291456", "4096\t131072\t6291456\n", true),
            ("4096\t131072   6291456", "4096\t131072\t6291456\n", true),
            ("+5", "5", true),
            ("-1", "-1", true),
            ("007", "7", true),
            ("00128", "128", true),
            ("010", "8", true),
            ("010", "10", false),
            ("0x10", "16", true),
            ("0X1f", "31", true),
            ("0", "0", true),
            ("-0", "0", true),
            ("18446744073709551615", "18446744073709551615", true),
            ("99999999999999999999999", "99999999999999999999999", true),
            ("099999999999999999999999", "99999999999999999999999", false),
            ("4096 131072", "4096\t131072\t6291456", false),
            ("", "\n", true),
            ("", "0", false),
            ("bbr", "cubic", false),
            ("|/usr/bin/core %P  %u", "|/usr/bin/core %P %u", true),
            // A mask of 32 bits: bit 4 is not the number 10, and not the octal 8 either.
            ("8", "00000010", false),
            ("10", "00000010", false),
            ("00000010", "00000010", true),
            ("16", "0x10", false),
            ("5", "+5", false),
        ];
        for (wish, shown, expected) in rows {
            assert_eq!(same(wish, shown), expected, "{wish:?} against {shown:?}");
        }
    }

    #[test]
    fn numbers_are_written_in_plain_decimal() {
        let rows = [
            ("+5", "3", "5"),
            ("0x10", "3", "16"),
            ("00128", "3", "128"),
            ("010", "3", "8"),
            ("1  2\t3", "1\t1\t1", "1 2 3"),
            ("0x10", "00000001", "0x10"),
            ("00000010", "00000001", "00000010"),
            ("bbr", "cubic", "bbr"),
            ("max", "7", "max"),
            ("8080,9000-9010", "", "8080,9000-9010"),
        ];
        for (wish, shown, expected) in rows {
            assert_eq!(for_kernel(wish, shown), expected, "{wish:?} where {shown:?} is shown");
        }
    }

    #[test]
    fn a_leading_zero_that_changes_the_number_is_seen() {
        for (wish, trap) in
            [("010", true), ("0", false), ("007", false), ("00128", false), ("1 020", true), ("0x10", false)]
        {
            assert_eq!(is_octal_trap(wish), trap, "{wish}");
        }
    }

    #[test]
    fn values_that_no_key_takes_are_refused() {
        assert_eq!(checked("a\nb"), Err(ValueError::Character { character: '\n' }));
        assert_eq!(checked("a\0"), Err(ValueError::Character { character: '\0' }));
        assert_eq!(checked(&"1".repeat(65_537)), Err(ValueError::TooLong { bytes: 65_537 }));
        assert_eq!(checked(" 1\t 2 ").unwrap(), "1\t 2");
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_was_wished(wish in "[-+0-9a-fx \t]{0,24}", shown in "[0-9]{1,5}(\t[0-9]{1,5}){0,2}") {
            let written = for_kernel(&wish, &shown);
            prop_assert!(same(&wish, &written), "{:?} was written as {:?}", wish, written);
        }

        #[test]
        fn a_shown_value_equals_itself(shown in "\\PC{0,40}") {
            prop_assert!(same(&shown, &shown));
            prop_assert!(same(&collapsed(&shown), &shown));
        }
    }
}
