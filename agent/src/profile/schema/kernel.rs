//! `sysctls`, `kernel`, `cgroup`.

use super::Schema;
use crate::profile::cgroup::{MAX_UNAVAILABLE, SECONDS};

pub(super) fn sysctls() -> Schema {
    Schema::object("Kernel parameters below /proc/sys. Taking a key out gives the old value back.")
        .field(
            "policy",
            Schema::choice(
                "Allow-list with ranges of a cloud provider; absent: every key may be set.",
                &["aks", "gke"],
            ),
        )
        .field(
            "values",
            Schema::map(
                "Key to value. Dots or slashes separate; * ? and [...] stand for names that the kernel has.",
                Schema::anything("A whole number, text, or a list of whole numbers."),
            ),
        )
}

pub(super) fn kernel() -> Schema {
    let module = || Schema::text("Name of a module.").max_length(55).pattern("^[A-Za-z0-9_][A-Za-z0-9_-]*$");
    let pages = Schema::object("Pages of one size on one NUMA node.")
        .field("size", Schema::amount("Size of a page: a power of two such as 2Mi or 1Gi."))
        .field("node", Schema::integer("The NUMA node.", 0, 1023))
        .field("count", Schema::integer("How many pages.", 0, u64::from(u32::MAX)))
        .required(&["size", "node", "count"]);
    Schema::object("Kernel settings that are not sysctls.")
        .field(
            "transparentHugePages",
            Schema::object("Transparent huge pages.")
                .field("enabled", Schema::choice("When they are used.", &["always", "madvise", "never"]))
                .field(
                    "defrag",
                    Schema::choice(
                        "How hard the kernel tries to make room for them.",
                        &["always", "defer", "defer+madvise", "madvise", "never"],
                    ),
                ),
        )
        .field("hugePages", Schema::list("Reserved huge pages, each size and node once.", pages))
        .field(
            "modules",
            Schema::object("Kernel modules; none may be in both lists.")
                .field("load", Schema::list("Loaded now, in this order.", module()))
                .field("block", Schema::list("Kept from being loaded.", module())),
        )
}

pub(super) fn cgroup() -> Schema {
    Schema::object("Which cgroup driver kubelet and container runtime should use.")
        .field(
            "driver",
            Schema::choice("The driver; absent: whichever, as long as both use the same.", &["systemd", "cgroupfs"]),
        )
        .field(
            "onMismatch",
            Schema::choice("What is done where they do not.", &["Report", "Migrate"]).default("Report"),
        )
        .field("migration", migration())
        .rule(
            "!has(self.onMismatch) || self.onMismatch != 'Migrate' || has(self.driver)",
            "Migrate needs a driver to migrate to",
        )
}

fn migration() -> Schema {
    let seconds = |description: &str| Schema::integer(description, SECONDS.0, SECONDS.1);
    let unit = |description: &str| Schema::text(description).max_length(255);
    let path = |description: &str| Schema::text(description).max_length(4096);
    Schema::object("How a node that uses another driver is moved, with onMismatch Migrate.")
        .field(
            "maxUnavailable",
            Schema::integer("Most nodes that may be away at a time, for whatever reason.", 1, MAX_UNAVAILABLE)
                .default(1),
        )
        .field("drainTimeoutSeconds", seconds("Longest drain.").default(900))
        .field(
            "readyTimeoutSeconds",
            seconds("Longest wait for kubelet and runtime to stop, to start, and for the node to be ready.")
                .default(300),
        )
        .field("deleteEmptyDirData", Schema::boolean("Whether pods with an emptyDir may be evicted.").default(false))
        .field("force", Schema::boolean("Whether pods that nobody makes again may be evicted.").default(false))
        .field("kubeletUnit", unit("Unit of the kubelet.").default("kubelet.service"))
        .field("runtimeUnit", unit("Unit of the runtime; absent: containerd.service or crio.service."))
        .field("kubeletConfig", path("The kubelet's file on the host.").default("/var/lib/kubelet/config.yaml"))
        .field("runtimeConfig", path("The runtime's file on the host; absent: its usual one."))
}
