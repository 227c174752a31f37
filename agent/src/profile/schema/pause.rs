//! `pause`.

use super::Schema;
use crate::profile::pause::{MAX_REASON, MAX_TIME};

/// RFC 3339 in UTC; whether there is such a day is for the rule.
const TIME: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?Z$";

pub(super) fn pause() -> Schema {
    let until = Schema::text(
        "When it ends by itself, such as 2030-01-31T12:00:00Z; further away than 24 hours when it is seen first, it is none.",
    )
    .max_length(u32::try_from(MAX_TIME).unwrap_or(u32::MAX))
    .pattern(TIME)
    .rule("timestamp(self) >= timestamp('1970-01-01T00:00:00Z')", "until is a time such as 2030-01-31T12:00:00Z");
    let reason = Schema::text("Why, for people.").max_length(u32::try_from(MAX_REASON).unwrap_or(u32::MAX));
    Schema::object("Until then the nodes are observed and nothing is written; taken out, it ends at once.")
        .field("until", until)
        .field("reason", reason)
        .required(&["until"])
}
