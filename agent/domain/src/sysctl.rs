//! Kernel parameters: how their names and values are spelled, what a pod may set, and how the node's are held.

pub mod absent;
mod admission;
pub mod files;
mod give_back;
pub mod glob;
pub mod key;
pub mod observation;
pub mod order;
pub mod ordered;
pub mod owner;
pub mod plan;
pub mod policy;
mod safe;
pub mod side_effect;
pub mod step;
pub mod value;
pub mod wishes;

pub use admission::{HostNamespaces, Namespace, PatternError, SysctlAllowlist, SysctlForbidden, SysctlPattern};
pub use key::SysctlKey;
pub use safe::{KernelVersion, SAFE_SYSCTLS, SafeSysctl, safe_sysctls};

/// A sysctl name in dot form, as the kubelet compares it.
///
/// The first separator decides: with a dot first the name is kept; with a slash first every slash becomes a dot and
/// every dot a slash (`net/ipv4/conf/eno2.100/rp_filter` is `net.ipv4.conf.eno2/100.rp_filter`).
#[must_use]
pub fn normalize(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.as_bytes().get(at)) {
        Some(b'/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn first_separator_decides() {
        let rows = [
            ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
            ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
            ("kernel", "kernel"),
        ];
        for (name, expected) in rows {
            assert_eq!(normalize(name), expected, "{name}");
        }
    }
}
