//! Where the rules of a node belong if the profile leaves it open.
//!
//! Where iptables is at work it is the implementation that the kubelet uses, found as kubernetes-sigs/iptables-wrappers
//! finds it (`iptables-wrapper/internal/iptables`), so that all of a node's rules stand in one place. Where a kube-proxy
//! keeps its rules in nftables, or neither implementation can work, it is a table of our own in nftables.

use super::Backend;

/// What a node shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// A kube-proxy in nftables mode keeps its table here.
    pub has_kube_proxy_table: bool,
    /// The implementation in which a kubelet (1.17 and newer) keeps one of its chains, and the chain.
    pub hint: Option<(Backend, String)>,
    /// Whether iptables-nft can work.
    pub nft: Ability,
    /// Whether iptables-legacy can work.
    pub legacy: Ability,
    /// Rules to the letter of another agent are asked for, which only iptables can hold.
    pub needs_iptables: bool,
}

/// What one implementation of iptables needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ability {
    /// Its programs are where the agent looks for them.
    pub has_programs: bool,
    /// The kernel has what they write to, or it cannot be told.
    pub has_kernel: bool,
}

impl Ability {
    const fn works(self) -> bool {
        self.has_programs && self.has_kernel
    }

    const fn lack(self) -> &'static str {
        if self.has_programs { "is not in this kernel" } else { "is not installed" }
    }
}

/// Chooses; the text is the evidence, for a person.
#[must_use]
pub fn choose_backend(evidence: &Evidence) -> (Backend, String) {
    let Evidence { nft, legacy, .. } = evidence;
    // nf_tables is what iptables-nft writes to.
    let has_native = nft.has_kernel && !evidence.needs_iptables;
    if has_native && evidence.has_kube_proxy_table {
        return (Backend::Native, "table kube-proxy of a kube-proxy in nftables mode".to_owned());
    }
    let works = |backend| match backend {
        Backend::Nft => nft.works(),
        Backend::Legacy => legacy.works(),
        Backend::Native => true,
    };
    match &evidence.hint {
        Some((backend, chain)) if works(*backend) || !has_native => {
            return (*backend, format!("chain {chain} of the kubelet"));
        }
        Some((backend, chain)) => {
            let lack = if *backend == Backend::Nft { nft.lack() } else { legacy.lack() };
            let reason = format!("chain {chain} of the kubelet is in iptables-{backend}, which {lack}");
            return (Backend::Native, reason);
        }
        None => {}
    }
    if nft.works() {
        return (Backend::Nft, "no hint of a kubelet".to_owned());
    }
    if legacy.works() {
        return (Backend::Legacy, format!("no hint of a kubelet; iptables-nft {}", nft.lack()));
    }
    if has_native {
        let reason =
            format!("no hint of a kubelet; iptables-nft {}, and iptables-legacy {}", nft.lack(), legacy.lack());
        return (Backend::Native, reason);
    }
    // Neither can be had: what is missing is said where the rules are refused.
    let backend = if legacy.has_programs && !nft.has_programs { Backend::Legacy } else { Backend::Nft };
    (backend, "no hint of a kubelet".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKS: Ability = Ability { has_programs: true, has_kernel: true };
    const NO_PROGRAMS: Ability = Ability { has_programs: false, has_kernel: true };
    const NO_KERNEL: Ability = Ability { has_programs: true, has_kernel: false };
    const NOTHING: Ability = Ability { has_programs: false, has_kernel: false };

    #[test]
    fn iptables_where_it_is_at_work_and_nftables_where_it_is_not() {
        use Backend::{Legacy, Native, Nft};
        let rows = [
            // Back ends that work; no hint; then the hint in nft, the hint in legacy.
            ("both", WORKS, WORKS, [Nft, Nft, Legacy]),
            ("nft alone", WORKS, NO_PROGRAMS, [Nft, Nft, Native]),
            ("the legacy modules are not loaded", WORKS, NO_KERNEL, [Nft, Nft, Native]),
            ("legacy alone", NO_PROGRAMS, WORKS, [Legacy, Native, Legacy]),
            ("a kernel without nf_tables", NO_KERNEL, WORKS, [Legacy, Nft, Legacy]),
            ("an image without iptables", NO_PROGRAMS, NO_PROGRAMS, [Native, Native, Native]),
            ("no programs, a kernel without ip_tables", NO_PROGRAMS, NOTHING, [Native, Native, Native]),
            ("legacy programs, a kernel without ip_tables", NO_PROGRAMS, NO_KERNEL, [Native, Native, Native]),
            ("no programs, a kernel without nf_tables", NOTHING, NO_PROGRAMS, [Nft, Nft, Legacy]),
            ("nothing at all", NOTHING, NOTHING, [Nft, Nft, Legacy]),
            ("legacy programs, a kernel with neither", NOTHING, NO_KERNEL, [Legacy, Nft, Legacy]),
        ];
        for (name, nft, legacy, expected) in rows {
            let hints = [None, Some((Nft, "X".to_owned())), Some((Legacy, "X".to_owned()))];
            for (hint, expected) in hints.into_iter().zip(expected) {
                let evidence = Evidence { hint: hint.clone(), nft, legacy, ..Evidence::default() };
                assert_eq!(choose_backend(&evidence).0, expected, "{name}, hint {hint:?}");
                let (beside_kube_proxy, _) =
                    choose_backend(&Evidence { has_kube_proxy_table: true, ..evidence.clone() });
                let native = if nft.has_kernel { Native } else { expected };
                assert_eq!(beside_kube_proxy, native, "{name}, hint {hint:?}, beside kube-proxy");
                let to_the_letter = Evidence { needs_iptables: true, has_kube_proxy_table: true, ..evidence };
                assert_ne!(choose_backend(&to_the_letter).0, Native, "{name}, hint {hint:?}, to the letter");
            }
        }
    }

    #[test]
    fn the_reason_names_what_was_seen() {
        let hint = |backend| Some((backend, "KUBE-IPTABLES-HINT".to_owned()));
        let rows = [
            (hint(Backend::Nft), WORKS, "chain KUBE-IPTABLES-HINT of the kubelet"),
            (
                hint(Backend::Legacy),
                WORKS,
                "chain KUBE-IPTABLES-HINT of the kubelet is in iptables-legacy, which is not installed",
            ),
            (None, WORKS, "no hint of a kubelet"),
            (
                None,
                NO_PROGRAMS,
                "no hint of a kubelet; iptables-nft is not installed, and iptables-legacy is not installed",
            ),
        ];
        for (hint, nft, expected) in rows {
            let (_, reason) = choose_backend(&Evidence { hint, nft, legacy: NOTHING, ..Evidence::default() });
            assert_eq!(reason, expected);
        }
    }
}
