//! `kubernetes`.

use serde_json::json;

use super::Schema;

pub(super) fn kubernetes() -> Schema {
    let namespace = Schema::text("A namespace.").max_length(63).pattern("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");
    let held = Schema::object("What becomes of pods that pinning refuses, and that therefore never start.")
        .field("fail", Schema::boolean("Whether they are failed with the kubelet's own reason.").default(true))
        .field("failAfter", Schema::text("After how long, as a duration of at least 5s.").default("60s"))
        .field(
            "protectedNamespaces",
            Schema::list("Where no pod is ever failed.", namespace).default(json!(["kube-system"])),
        );
    let count = Schema::integer("How many the node has.", 0, 1 << 53);
    let resources = Schema::map(
        "Extended resources that the node advertises: names with a domain that is not kubernetes.io, whole numbers. Each \
         is for the scheduler to count alone.",
        count,
    )
    .max_entries(32)
    .rule(
        "self.all(name, size(name) <= 317 && name.contains('/') && !name.startsWith('requests.') && \
         !name.startsWith('kubernetes.io/') && !name.contains('.kubernetes.io/'))",
        "an extended resource has a name such as example.com/dongle, not of kubernetes.io",
    );
    Schema::object("What the API server is told of the node.")
        .field("extendedResources", resources)
        .field("heldPods", held)
        .field(
            "nodeResourceTopology",
            Schema::boolean("Whether the node's NodeResourceTopology is kept, where that kind is installed.")
                .default(false),
        )
}
