//! `confirm`.

use serde_json::json;
use trimtab_domain::spec::confirm::RISKY_SUBSYSTEMS;

use super::Schema;
use crate::profile::confirm::{DEADLINE, MAX_PROBES};

pub(super) fn confirm() -> Schema {
    let probe = Schema::object("Something that must be reached: tcp or http.")
        .field("tcp", Schema::text("HOST:PORT, to which a connection is made.").max_length(260))
        .field("http", Schema::text("http://HOST[:PORT][/PATH], which answers 200 to 399.").max_length(2048))
        .rule("has(self.tcp) != has(self.http)", "a probe is one of tcp and http");
    let subsystem = Schema::choice("A subsystem.", &RISKY_SUBSYSTEMS);
    Schema::object(
        "After a change that may cut the node off (sysctls below net, masquerade rules, kernel modules) it must still reach \
         what it reached before, else the change is taken back.",
    )
    .field(
        "deadlineSeconds",
        Schema::integer("How long a change has to be confirmed.", DEADLINE.0, DEADLINE.1).default(60),
    )
    .field(
        "probes",
        Schema::list("What must be reached beside the API server and the agent's own port.", probe)
            .max_items(u32::try_from(MAX_PROBES).unwrap_or(u32::MAX)),
    )
    .field(
        "subsystems",
        Schema::list("Whose changes are watched over; an empty list: nobody's.", subsystem)
            .max_items(3)
            .default(json!(RISKY_SUBSYSTEMS)),
    )
}
