//! Which backend this node uses: the order of kubernetes-sigs/iptables-wrappers, without a process where the kernel
//! can be asked.

#![expect(clippy::disallowed_methods, reason = "reads the calling thread's own /proc")]

use std::collections::BTreeSet;
use std::fs;

use trimtab_domain::masquerade::{Backend, Connected, Family, TableId};

use super::tools::{Tool, Tools};
use crate::adapters::nftables;
use crate::ports::BackendChoice;

/// Chains that a kubelet (1.17 and newer) keeps in table `mangle` of the backend that it uses.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];
/// The table that holds them.
const HINT_TABLE: &str = "mangle";

/// What is known so far. A hint settles it for good; without one every call looks again, because an agent that starts
/// before the kubelet must not stay with a guess.
#[derive(Debug, Default)]
pub(super) struct Detection {
    settled: Option<BackendChoice>,
}

impl Detection {
    pub(super) async fn choose(&mut self, tools: &Tools) -> BackendChoice {
        if let Some(choice) = &self.settled {
            return choice.clone();
        }
        let hint = match nft_hint() {
            Some(hint) => Some((Backend::Nft, hint)),
            None => legacy_hint(tools).await.map(|hint| (Backend::Legacy, hint)),
        };
        if let Some((backend, hint)) = hint {
            let choice = BackendChoice { backend, reason: format!("chain {hint} of the kubelet") };
            self.settled = Some(choice.clone());
            return choice;
        }
        let (backend, reason) = if !tools.has(Backend::Nft) && tools.has(Backend::Legacy) {
            (Backend::Legacy, "no hint of a kubelet; only the legacy tools are installed")
        } else {
            (Backend::Nft, "no hint of a kubelet")
        };
        BackendChoice { backend, reason: reason.to_owned() }
    }
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
