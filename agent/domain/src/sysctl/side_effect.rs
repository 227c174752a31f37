//! Writes that make the kernel change other keys.
//!
//! Sources: mm/page-writeback.c (`dirty_*_handler`), mm/util.c (`overcommit_*_handler`), net/ipv4/devinet.c
//! (`inet_forward_change`), net/ipv6/addrconf.c (`addrconf_fixup_forwarding`, `addrconf_disable_ipv6`).

use super::SysctlKey;
use super::owner::names;

/// Keys of which a write to one makes the kernel set the other to 0.
pub const EXCLUSIVE: [(&str, &str); 3] = [
    ("vm.dirty_bytes", "vm.dirty_ratio"),
    ("vm.dirty_background_bytes", "vm.dirty_background_ratio"),
    ("vm.overcommit_kbytes", "vm.overcommit_ratio"),
];

/// Two names of one kernel variable.
pub const ALIASES: [(&str, &str); 2] = [
    ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"),
    ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max"),
];

/// Keys whose writes reach others, in the order in which they must be written, before those others.
const CAUSES: [(&str, &[(&str, Effect)]); 5] = [
    ("net.ipv4.ip_forward", IPV4_FORWARDING),
    ("net.ipv4.conf.all.forwarding", IPV4_FORWARDING),
    ("net.ipv6.conf.all.forwarding", &[("net.ipv6.conf.*.forwarding", Effect::Same)]),
    ("net.ipv6.conf.all.disable_ipv6", &[("net.ipv6.conf.*.disable_ipv6", Effect::Same)]),
    ("net.netfilter.nf_conntrack_max", &[("net.nf_conntrack_max", Effect::Same)]),
];

const IPV4_FORWARDING: &[(&str, Effect)] = &[
    ("net.ipv4.ip_forward", Effect::Same),
    ("net.ipv4.conf.*.forwarding", Effect::Same),
    ("net.ipv4.conf.all.accept_redirects", Effect::Not),
];

/// What the other key shows afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The value that was written.
    Same,
    /// 1 for 0, 0 for anything else.
    Not,
    /// 0, unless 0 was written.
    Zero,
}

/// What a write of `value` to `cause` makes of `key`; `None`: it leaves it alone.
#[must_use]
pub fn on(key: &SysctlKey, cause: &SysctlKey, value: &str) -> Option<String> {
    if key == cause {
        return None;
    }
    let effect = reach(cause).find(|(pattern, _)| names(pattern, key)).map(|(_, effect)| effect)?;
    let is_zero = super::value::same(value, "0");
    match effect {
        Effect::Same => Some(super::value::collapsed(value)),
        Effect::Not => Some(if is_zero { "1" } else { "0" }.to_owned()),
        Effect::Zero => (!is_zero).then(|| "0".to_owned()),
    }
}

/// The keys (with `*` for one component) that a write to `cause` changes too.
pub fn reached(cause: &SysctlKey) -> impl Iterator<Item = &'static str> {
    reach(cause).map(|(pattern, _)| pattern)
}

/// Where a cause stands among the causes; `None`: its writes change nothing else that would have to come later.
#[must_use]
pub fn rank(key: &SysctlKey) -> Option<usize> {
    CAUSES.iter().position(|(cause, _)| *cause == key.as_str())
}

fn reach(cause: &SysctlKey) -> impl Iterator<Item = (&'static str, Effect)> {
    let name = cause.as_str();
    let broad = CAUSES.iter().find(|(key, _)| *key == name).map_or(&[] as &[_], |(_, reach)| *reach);
    let exclusive = EXCLUSIVE.iter().find_map(|&(a, b)| if a == name { Some(b) } else { (b == name).then_some(a) });
    broad.iter().copied().chain(exclusive.map(|other| (other, Effect::Zero)))
}

/// The other key of an exclusive pair.
#[must_use]
pub fn exclusive_with(key: &SysctlKey) -> Option<SysctlKey> {
    let name = key.as_str();
    let other = EXCLUSIVE.iter().find_map(|&(a, b)| if a == name { Some(b) } else { (b == name).then_some(a) })?;
    SysctlKey::parse(other).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_write_reaches_other_keys() {
        let rows = [
            ("vm.dirty_bytes", "4096000", "vm.dirty_ratio", Some("0")),
            ("vm.dirty_ratio", "20", "vm.dirty_bytes", Some("0")),
            ("vm.dirty_ratio", "0", "vm.dirty_bytes", None),
            ("vm.dirty_ratio", "20", "vm.dirty_background_bytes", None),
            ("vm.overcommit_kbytes", "100", "vm.overcommit_ratio", Some("0")),
            ("net.ipv4.ip_forward", "1", "net.ipv4.conf.eth0.forwarding", Some("1")),
            ("net.ipv4.ip_forward", "1", "net.ipv4.conf.all.forwarding", Some("1")),
            ("net.ipv4.ip_forward", "1", "net.ipv4.conf.all.accept_redirects", Some("0")),
            ("net.ipv4.ip_forward", "1", "net.ipv4.conf.eth0.rp_filter", None),
            ("net.ipv4.conf.all.forwarding", "0", "net.ipv4.ip_forward", Some("0")),
            ("net.ipv4.conf.eth0.forwarding", "1", "net.ipv4.ip_forward", None),
            ("net.ipv6.conf.all.disable_ipv6", "1", "net.ipv6.conf.default.disable_ipv6", Some("1")),
            ("net.netfilter.nf_conntrack_max", "5", "net.nf_conntrack_max", Some("5")),
        ];
        for (cause, value, key, expected) in rows {
            let (cause, key) = (SysctlKey::parse(cause).unwrap(), SysctlKey::parse(key).unwrap());
            assert_eq!(on(&key, &cause, value).as_deref(), expected, "{cause} = {value} on {key}");
        }
    }
}
