//! Section `pause`: until when the node is only observed.

use std::time::UNIX_EPOCH;

use trimtab_domain::spec::PauseSpec;

use super::reader::{Cursor, Problems};

/// Most bytes of a reason, as of one that is given over the socket.
pub(super) const MAX_REASON: usize = 256;
/// Most bytes of a time: nanoseconds.
pub(super) const MAX_TIME: usize = 30;
/// What a time is, for people.
const TIME: &str = "a time of RFC 3339 in UTC such as 2030-01-31T12:00:00Z";

/// Fields:
/// - `until`: when the pause ends by itself; at most 24 hours ahead when the agent sees it first, else it is none;
/// - `reason`: why, for people.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<PauseSpec> {
    let section = section.object(&["until", "reason"], problems)?;
    let reason = section.field("reason").and_then(|cursor| read_reason(&cursor, problems)).unwrap_or_default();
    let cursor = section.required("until", TIME, problems)?;
    let text = cursor.text(TIME, problems)?;
    let until = seconds(text);
    if until.is_none() {
        problems.refuse(cursor.problem("not a time").allowed(TIME));
    }
    Some(PauseSpec { until: until?, reason })
}

fn read_reason(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let allowed = format!("text of at most {MAX_REASON} bytes without control characters");
    let reason = cursor.text(&allowed, problems)?;
    if reason.len() > MAX_REASON || reason.contains(char::is_control) {
        problems.refuse(cursor.problem("not a reason").allowed(allowed));
        return None;
    }
    Some(reason.to_owned())
}

/// Seconds since 1970. Leap seconds and what is not a time to the letter are none.
fn seconds(text: &str) -> Option<u64> {
    let is_leap = text.get(17..19) == Some("60");
    let time = humantime::parse_rfc3339(text).ok().filter(|_| !is_leap && text.len() <= MAX_TIME)?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_of_rfc_3339_in_utc_to_the_letter() {
        let rows = [
            ("1970-01-01T00:00:01Z", Some(1)),
            ("2026-11-20T12:00:00Z", Some(1_795_176_000)),
            ("2026-11-20T12:00:00.75Z", Some(1_795_176_000)),
            ("2026-11-20T12:00:00+01:00", None),
            ("2026-11-20 12:00:00Z", None),
            ("2026-11-20t12:00:00z", None),
            ("2026-11-20T12:00Z", None),
            ("2026-11-20", None),
            ("2026-02-30T12:00:00Z", None),
            ("2026-11-20T12:00:60Z", None),
            ("2026-11-20T12:00:00.0000000000Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("tomorrow", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
