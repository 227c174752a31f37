//! `resourceManagers`, with the kubelet's own names.

use super::Schema;

pub(super) fn managers() -> Schema {
    let options = |description: &str| Schema::map(description, Schema::text("The value, in quotes."));
    let reserved = |whose: &str| {
        Schema::map(
            &format!("What is kept back for {whose}: cpu, memory, ephemeral-storage, pid. Write fractions in quotes."),
            Schema::amount("A quantity such as 500m or 1Gi."),
        )
    };
    rules(policies(Schema::object(
        "CPU, memory and topology manager, with the kubelet's own fields and rules; absent: nothing is pinned.",
    )))
    .field("cpuManagerPolicyOptions", options("Options of the static CPU policy."))
    .field("topologyManagerPolicyOptions", options("Options of the topology manager."))
    .field("cpuManagerReconcilePeriod", Schema::text("A duration such as 10s."))
    .field(
        "reservedSystemCPUs",
        Schema::text("CPUs kept back for the system, as a list such as 0-1,8.").max_length(4096),
    )
    .field("reservedMemory", reserved_memory())
    .field("kubeReserved", reserved("Kubernetes itself"))
    .field("systemReserved", reserved("the system"))
    .field(
        "evictionHard",
        Schema::map("Thresholds of hard eviction by signal.", Schema::amount("A quantity or a percentage.")),
    )
    .field("enforceNodeAllocatable", enforcement())
    .field("kubeReservedCgroup", Schema::text("cgroup of Kubernetes' own programs.").max_length(4096))
    .field("systemReservedCgroup", Schema::text("cgroup of the system's programs.").max_length(4096))
    .field("featureGates", Schema::map("The kubelet's feature gates.", Schema::boolean("Whether the gate is on.")))
    .field("extensions", extensions())
}

fn policies(section: Schema) -> Schema {
    section
        .field(
            "cpuManagerPolicy",
            Schema::choice(
                "static gives CPUs of their own to Guaranteed containers with whole CPUs.",
                &["none", "static"],
            )
            .default("none"),
        )
        .field(
            "memoryManagerPolicy",
            Schema::choice("Static gives them memory of their own NUMA nodes.", &["None", "Static"]).default("None"),
        )
        .field(
            "topologyManagerPolicy",
            Schema::choice(
                "How strictly CPUs, memory and devices are aligned.",
                &["none", "best-effort", "restricted", "single-numa-node"],
            )
            .default("none"),
        )
        .field(
            "topologyManagerScope",
            Schema::choice("What is aligned as one.", &["container", "pod"]).default("container"),
        )
}

fn rules(section: Schema) -> Schema {
    section
        .rule(
            "!has(self.reservedSystemCPUs) || self.reservedSystemCPUs == '' || ((!has(self.kubeReservedCgroup) || \
             self.kubeReservedCgroup == '') && (!has(self.systemReservedCgroup) || self.systemReservedCgroup == ''))",
            "reservedSystemCPUs cannot be used with kubeReservedCgroup or systemReservedCgroup",
        )
        .rule(
            "!has(self.cpuManagerPolicy) || self.cpuManagerPolicy != 'static' || has(self.reservedSystemCPUs) || \
             (has(self.kubeReserved) && 'cpu' in self.kubeReserved) || (has(self.systemReserved) && 'cpu' in \
             self.systemReserved)",
            "the static policy needs reservedSystemCPUs or a reservation of cpu",
        )
        .rule(
            "!has(self.memoryManagerPolicy) || self.memoryManagerPolicy != 'Static' || (has(self.reservedMemory) && \
             size(self.reservedMemory) > 0)",
            "the Static memory policy needs reservedMemory",
        )
}

fn reserved_memory() -> Schema {
    let node = Schema::object("Memory kept back on one NUMA node.")
        .field("numaNode", Schema::integer("The NUMA node.", 0, 1023))
        .field(
            "limits",
            Schema::map("Amounts by type: memory, hugepages-SIZE.", Schema::amount("A quantity such as 512Mi.")),
        )
        .required(&["numaNode", "limits"]);
    Schema::list("Adds up to kubeReserved + systemReserved + evictionHard.", node).max_items(4096)
}

fn enforcement() -> Schema {
    let words = [
        "pods",
        "kube-reserved",
        "system-reserved",
        "kube-reserved-compressible",
        "system-reserved-compressible",
        "none",
    ];
    Schema::list("What is bounded by cgroups.", Schema::choice("A word of the kubelet's.", &words))
        .max_items(6)
        .rule("!('none' in self) || size(self) == 1", "none stands alone")
}

fn extensions() -> Schema {
    Schema::object("What the kubelet does not have; nothing of it is on by itself.")
        .field("wideMachines", Schema::boolean("Up to 64 NUMA nodes, whatever max-allowable-numa-nodes says."))
        .field(
            "isolatedCPUs",
            Schema::choice("What becomes of isolcpus.", &["Ordinary", "ExclusiveOnly", "Untouched"])
                .default("Ordinary"),
        )
        .field("resizeInPlace", Schema::boolean("A resized container keeps as many of its CPUs as it can."))
        .field(
            "liftCPUQuota",
            Schema::boolean("No CFS quota with exclusive CPUs; absent: as the kubelet's feature gate says."),
        )
        .field("podAnnotations", Schema::boolean("Annotations of pods name containers that own CPUs."))
        .field("migrateMemory", Schema::boolean("Memory nodes of running containers are changed, and pages move."))
        .field(
            "confineSystem",
            Schema::list("cgroups held on reservedSystemCPUs.", Schema::text("A cgroup such as system.slice.")),
        )
        .field(
            "interruptCPUs",
            Schema::choice("Where interrupts are served.", &["Any", "Reserved", "NotIsolated"]).default("Any"),
        )
}
