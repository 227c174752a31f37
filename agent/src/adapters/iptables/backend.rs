//! Which backend this node uses: the order of kubernetes-sigs/iptables-wrappers, without a process where the kernel
//! can be asked.

#![expect(clippy::disallowed_methods, reason = "reads the calling thread's own /proc")]

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use trimtab_domain::masquerade::{Ability, Backend, Connected, Evidence, Family, TableId, choose_backend};

use super::tools::{Tool, Tools};
use crate::adapters::nftables;
use crate::ports::BackendChoice;

/// Chains that a kubelet (1.17 and newer) keeps in table `mangle` of the backend that it uses.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];
/// The table that holds them.
const HINT_TABLE: &str = "mangle";

/// The table of a kube-proxy in nftables mode, one per family (KEP-3866).
const KUBE_PROXY_TABLE: &str = "kube-proxy";

/// What is known so far. A hint settles for good which of iptables' back ends it is, so that rules of a running node do
/// not move; without one every call looks again, because an agent that starts before the kubelet must not stay with a
/// guess. A kube-proxy in nftables mode, which comes up with the agent, is firmer evidence than the kubelet's chain.
#[derive(Debug, Default)]
pub(super) struct Detection {
    hint: Option<(Backend, String)>,
    has_kube_proxy_table: bool,
}

impl Detection {
    pub(super) async fn choose(&mut self, tools: &Tools, needs_iptables: bool) -> BackendChoice {
        if self.hint.is_none() {
            self.hint = match nft_hint() {
                Some(hint) => Some((Backend::Nft, hint)),
                None => legacy_hint(tools).await.map(|hint| (Backend::Legacy, hint)),
            };
        }
        self.has_kube_proxy_table |= has_kube_proxy_table();
        let nft = Ability { has_programs: tools.has(Backend::Nft), has_kernel: has_nf_tables() };
        let legacy = Ability { has_programs: tools.has(Backend::Legacy), has_kernel: has_ip_tables() };
        let hint = self.hint.clone();
        let evidence = Evidence { has_kube_proxy_table: self.has_kube_proxy_table, hint, nft, legacy, needs_iptables };
        let (backend, reason) = choose_backend(&evidence);
        BackendChoice { backend, reason }
    }
}

fn has_kube_proxy_table() -> bool {
    Family::ALL.into_iter().any(|family| nftables::table_exists(family, KUBE_PROXY_TABLE).unwrap_or(false))
}

/// Without the privilege to ask it cannot be told; reading the table then says what is missing.
fn has_nf_tables() -> bool {
    nftables::generation().map_or_else(|error| error.kind() == ErrorKind::PermissionDenied, |_| true)
}

/// The list of legacy tables is there with the module alone, and only the host's own tool can load that.
fn has_ip_tables() -> bool {
    Path::new("/proc/thread-self/net/ip_tables_names").exists()
}

fn nft_hint() -> Option<String> {
    let exists = |family, hint| nftables::chain_exists(family, HINT_TABLE, hint).unwrap_or(false);
    let mut places = Family::ALL.into_iter().flat_map(|family| HINTS.map(|hint| (family, hint)));
    places.find(|(family, hint)| exists(*family, hint)).map(|(_, hint)| hint.to_owned())
}

/// Runs a tool only where the kernel has the legacy table at all: on most nodes never.
async fn legacy_hint(tools: &Tools) -> Option<String> {
    for family in Family::ALL {
        if !legacy_tables(family).contains(HINT_TABLE) {
            continue;
        }
        let program = tools.find(TableId { family, backend: Backend::Legacy }, Tool::Save);
        let Some(program) = program else { continue };
        let Ok(text) = tools.run(program, &["-t", HINT_TABLE], "").await else { continue };
        let found = HINTS.into_iter().find(|hint| text.lines().any(|line| line.starts_with(&format!(":{hint} "))));
        if let Some(hint) = found {
            return Some(hint.to_owned());
        }
    }
    None
}

/// Networks behind the interfaces of this network namespace.
pub(super) fn connected() -> Vec<Connected> {
    let text = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let mut found = Connected::parse_v4(&text("route"));
    found.extend(Connected::parse_v6(&text("ipv6_route")));
    found
}

/// Names of the legacy tables that this network namespace has. Empty, too, where the list may not be read.
pub(super) fn legacy_tables(family: Family) -> BTreeSet<String> {
    let path = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
