//! `sysctls`, `kernel`, `cgroup`.

use super::Schema;

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
        .field("onMismatch", Schema::choice("What is done where they do not.", &["Report"]).default("Report"))
}
