//! `rollout`.

use super::Schema;
use crate::profile::rollout::{MAX_SOAK, MAX_STEPS};

pub(super) fn rollout() -> Schema {
    let step = Schema::object("One step.")
        .field("percent", Schema::integer("The nodes that have the change once this step has begun.", 1, 100))
        .field("soakSeconds", Schema::integer("How long these must stay well before the next step.", 0, MAX_SOAK))
        .required(&["percent", "soakSeconds"]);
    let steps = Schema::list("The steps in order, each with more nodes; after the last one all follow.", step)
        .max_items(u32::try_from(MAX_STEPS).unwrap_or(u32::MAX));
    Schema::object(
        "How a change of this object spreads: each node decides for itself, by its place in an order that a hash gives.",
    )
    .field("steps", steps)
    .field(
        "maxUnhealthyPercent",
        Schema::integer("The change stops where more of the nodes that have it are unwell; absent: it never does.", 0, 100),
    )
}
