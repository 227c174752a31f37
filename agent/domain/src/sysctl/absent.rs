//! Why the kernel may lack a key, and what brings it.

use super::SysctlKey;

/// Prefix of keys and the module that brings them. Longer prefixes first.
const MODULES: &[(&str, &str)] = &[
    ("net.netfilter.nf_conntrack", "nf_conntrack"),
    ("net.netfilter.nf_flowtable", "nf_flow_table"),
    ("net.nf_conntrack_max", "nf_conntrack"),
    ("net.bridge.", "br_netfilter"),
    ("net.ipv4.vs.", "ip_vs"),
    ("net.ipv6.", "ipv6"),
    ("net.mptcp.", "mptcp"),
    ("net.mpls.", "mpls_router"),
    ("net.sctp.", "sctp"),
    ("net.rds.", "rds"),
    ("net.tipc.", "tipc"),
    ("net.smc.", "smc"),
    ("net.ipv4.tcp_bbr", "tcp_bbr"),
    ("fs.nfs.", "lockd"),
    ("sunrpc.", "sunrpc"),
    ("dev.cdrom.", "cdrom"),
    ("dev.raid.", "md_mod"),
    ("dev.scsi.", "scsi_mod"),
];

/// Where each entry is an interface, with the number of components before it and after it.
const PER_INTERFACE: &[&str] =
    &["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh.", "net.mpls.conf."];

/// What to do about a key that this kernel does not have, in one sentence.
#[must_use]
pub fn remedy(key: &SysctlKey) -> String {
    let name = key.as_str();
    for prefix in PER_INTERFACE {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let mut parts = rest.rsplitn(2, '.');
        let (Some(parameter), Some(interface)) = (parts.next(), parts.next()) else { continue };
        if interface.contains('.') {
            let spelled = interface.replace('.', "/");
            return format!(
                "a dot within an interface name is written as a slash: if {interface:?} is one interface, write \
                 {prefix}{spelled}.{parameter}"
            );
        }
        return format!(
            "there is no interface {:?}, or the kernel does not know {parameter}",
            interface.replace('/', ".")
        );
    }
    match MODULES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        Some((_, module)) => format!("load the module {module} (kernel.modules.load), which brings it"),
        None => "check the spelling; the key may need another kernel version, configuration or module".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_absent_key_comes_with_a_remedy() {
        let rows = [
            ("net.netfilter.nf_conntrack_max", "nf_conntrack"),
            ("net.nf_conntrack_max", "nf_conntrack"),
            ("net.bridge.bridge-nf-call-iptables", "br_netfilter"),
            ("net.ipv4.vs.conntrack", "ip_vs"),
            ("net.ipv4.conf.eth9.rp_filter", "no interface \"eth9\""),
            ("net.ipv4.conf.eno2/100.rp_filter", "no interface \"eno2.100\""),
            ("net.ipv4.conf.eno2.100.rp_filter", "write net.ipv4.conf.eno2/100.rp_filter"),
            ("vm.swapiness", "check the spelling"),
        ];
        for (key, expected) in rows {
            let text = remedy(&SysctlKey::parse(key).unwrap());
            assert!(text.contains(expected), "{key}: {text}");
        }
    }
}
