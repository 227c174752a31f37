//! The schema of `NodeState`: what one agent tells of its node.

use serde_json::json;

use super::object;
use crate::profile::schema::Schema;

pub(super) fn schema() -> Schema {
    let text = Schema::text;
    let count = |description: &str| Schema::integer(description, 0, 1 << 53);
    let profile = Schema::object("The profile in force.")
        .field("name", text("Its name; empty: none."))
        .field("selected", text("The profile of the cluster that is for this node, in force or refused; empty: none."))
        .field("source", text("Where it came from."))
        .field("generation", count("Generation of the object; 0 for a file."))
        .field("why", text("Why this one."))
        .field("waiting", text("The newer generation that has not come to this node yet, and why; empty: none."))
        .field("errors", Schema::list("Why the newest is not in force.", text("One reason.")))
        .field("verdicts", Schema::list("What became of the profiles of the cluster, the nearest first.", verdict()));
    let part = Schema::object("One part of the node.")
        .field("name", text("Its name."))
        .field("state", text("pending, converged, failing, fighting, paused."))
        .field("error", text("The last failure."))
        .field("refusals", Schema::list("Wishes not granted, the first few.", trouble()))
        .field("findings", Schema::list("Warnings, the first few.", trouble()))
        .field("fights", Schema::list("Objects that somebody keeps changing, the first few.", trouble()))
        .required(&["name"]);
    let parts = Schema::list("The parts of the node.", part)
        .with("x-kubernetes-list-type", json!("map"))
        .with("x-kubernetes-list-map-keys", json!(["name"]));
    object("How a node stands to its profile; written by the agent on that node, which is its only writer.")
        .field("profile", profile)
        .field("state", text("InSync, Refusing, Failing, Fighting, Paused or Pending."))
        .field("ready", Schema::boolean("Whether every part has ended a pass over the profile."))
        .field("refusals", count("Wishes that are not granted."))
        .field("drifts", count("Objects found changed by others since the agent started."))
        .field("parts", parts)
        .field("agent", Schema::object("The agent.").field("version", text("Its version.")))
        .field("updated", text("When this was written.").with("format", json!("date-time")))
        .field("extensions", Schema::anything("What other parts of the agent tell: migration, roll-out."))
}

fn verdict() -> Schema {
    Schema::object("What became of one profile.")
        .field("profile", Schema::text("Its name."))
        .field("outcome", Schema::text("Won, Outweighed, NotSelected, Unreadable."))
        .field("why", Schema::text("Why."))
}

fn trouble() -> Schema {
    Schema::object("Something that is not as it should be.")
        .field("object", Schema::text("The object on the node."))
        .field("code", Schema::text("Cause, in a word."))
        .field("detail", Schema::text("What it is, for a person."))
}
