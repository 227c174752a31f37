//! `ipMasq`, with ip-masq-agent's own names.

use super::Schema;

pub(super) fn ip_masq() -> Schema {
    let switch = |description: &str| Schema::boolean(description);
    let section = Schema::object("Masquerade rules, with ip-masq-agent's own names; its flags are fields too.")
        .field(
            "nonMasqueradeCIDRs",
            cidrs("Destinations that see the pod's own address; absent: the private ranges.").max_items(4096),
        )
        .field("masqLinkLocal", switch("Whether 169.254.0.0/16 is masqueraded, too."))
        .field("masqLinkLocalIPv6", switch("Whether fe80::/10 is masqueraded, too."))
        .field("cidrLimit", Schema::integer("Most prefixes allowed; absent: 64.", 0, 4096))
        .field("resyncInterval", Schema::text("Longest time between two looks, as a duration of at least 1s."))
        .field("enableIPv6", switch("Whether IPv6 rules are kept.").default(false))
        .field("masqChain", Schema::text("Name of the chain.").max_length(28).default("IP-MASQ-AGENT"))
        .field(
            "randomFully",
            switch("Whether source ports are chosen at random; absent: yes, but with compat: azure no."),
        )
        .field("toPorts", Schema::amount("Source ports such as 1024-2047,4000; absent: the kernel chooses."))
        .field(
            "nomasqAllReservedRanges",
            switch("Whether all reserved ranges are left out where no list is given.").default(false),
        )
        .field("compat", Schema::choice("Rules to the letter of that agent.", &["kubernetes-sigs", "azure"]))
        .field(
            "backend",
            Schema::choice(
                "Where the rules are kept; auto: where the kubelet keeps its own.",
                &["auto", "iptables-nft", "iptables-legacy", "nftables"],
            )
            .default("auto"),
        )
        .field(
            "onExit",
            Schema::choice("What becomes of the rules when the agent stops.", &["keep", "remove"]).default("keep"),
        )
        .field(
            "configFile",
            Schema::text("The configuration of kubernetes-sigs' agent, read in place.").max_length(4096),
        )
        .field(
            "configMaps",
            Schema::choice(
                "The ConfigMaps of that agent in kube-system, read in place from the API server.",
                &["kubernetes-sigs", "azure"],
            ),
        )
        .field("configDir", Schema::text("The configurations of Azure's agent, read in place.").max_length(4096))
        .field("cluster", cluster())
        .field("extensions", extensions());
    rules(section)
}

fn rules(section: Schema) -> Schema {
    section
        .rule("!(has(self.configFile) && has(self.configDir))", "configFile and configDir exclude each other")
        .rule(
            "!has(self.configMaps) || !(has(self.configFile) || has(self.configDir))",
            "configMaps and configFile or configDir exclude each other",
        )
        .rule(
            "!(has(self.configFile) || has(self.configDir) || has(self.configMaps)) || !(has(self.nonMasqueradeCIDRs) || has(self.masqLinkLocal) || \
             has(self.masqLinkLocalIPv6) || has(self.cidrLimit) || has(self.resyncInterval))",
            "what the file of configFile, configDir or configMaps has must not be here, too",
        )
        .rule(
            "!has(self.compat) || (!has(self.extensions) && (!has(self.backend) || self.backend != 'nftables'))",
            "compat keeps another agent's iptables rules: no extensions, no nftables",
        )
        .rule(
            "(has(self.enableIPv6) && self.enableIPv6) || !has(self.nonMasqueradeCIDRs) || \
             self.nonMasqueradeCIDRs.all(cidr, !cidr.contains(':'))",
            "prefixes of IPv6 need enableIPv6: true",
        )
}

fn cidrs(description: &str) -> Schema {
    Schema::list(description, Schema::text("A prefix such as 10.0.0.0/8 or fd00::/8.").max_length(64))
}

fn cluster() -> Schema {
    Schema::object("What is known of the cluster's networks, for checks before the first write.")
        .field("podCIDRs", cidrs("Addresses of pods."))
        .field("serviceCIDRs", cidrs("Addresses of services."))
        .field("nodeCIDRs", cidrs("Addresses of nodes."))
        .field("overlay", Schema::boolean("Whether pod addresses mean nothing outside the cluster.").default(false))
}

fn extensions() -> Schema {
    let texts = |description: &str, each: &str| Schema::list(description, Schema::text(each));
    Schema::object("What no masquerade agent has.")
        .field("sources", cidrs("Only packets from these prefixes are masqueraded."))
        .field("exemptPorts", texts("Packets to these ports keep their source.", "tcp/443, udp/8000-8999 or sctp/7."))
        .field("exemptInterfaces", texts("So do packets that leave through these.", "Whole name of an interface."))
        .field("exemptMarks", texts("And packets with these marks.", "0x4000 or 0x4000/0x4000."))
        .field(
            "snat",
            texts("Addresses instead of the outgoing interface's, one range per family.", "192.0.2.1-192.0.2.9."),
        )
        .field("blockMetadata", block_metadata())
}

fn block_metadata() -> Schema {
    let texts = |description: &str, each: &str| Schema::list(description, Schema::text(each)).max_items(64);
    Schema::object("Pods are kept away from the cloud's metadata service; an empty mapping blocks for everybody.")
        .field(
            "addresses",
            texts("Addresses of the service; absent: 169.254.169.254, with enableIPv6 fd00:ec2::254.", "An address."),
        )
        .field("exceptSources", texts("Prefixes whose packets pass.", "A prefix such as 10.0.0.0/8."))
        .field("exceptPorts", texts("Ports of the service that everybody may reach.", "udp/53 or tcp/80-89."))
        .field("exceptInterfaces", texts("What comes in through these passes.", "Whole name of an interface."))
        .field("answer", Schema::choice("What the others get.", &["reject", "drop"]).default("reject"))
}
