//! `ipmasq-packets`: whom a peer sees when real packets cross the node, with each of the three back ends.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde_json::{Value, json};
use trimtab_domain::masquerade::Backend;

use super::agent::Agent;
use super::kernel::{Files, Tools};
use super::world::{Host, Protocol, World};
use crate::category::{Mismatch, Verdict, malformed};
use crate::machine::Machines;

/// Each row asks from a port of its own, so that no flow is taken for another.
const FIRST_PORT: u16 = 30_000;
/// How far from its first port a flow is tried again, clear of the ports of all rows.
const SECOND_TRY: u16 = 10_000;

/// `ipmasq-packets`.
pub(crate) fn judge(case: &Value, _: &Machines) -> Verdict {
    [Backend::Nft, Backend::Legacy, Backend::Native].into_iter().try_for_each(|backend| {
        let verdict = replay(case, backend);
        verdict.map_err(|mismatch| Mismatch { got: format!("with {backend}: {}", mismatch.got), ..mismatch })
    })
}

fn replay(case: &Value, backend: Backend) -> Verdict {
    let world = World::new().map_err(|errno| Mismatch {
        expected: "fresh network namespaces (needs root)".to_owned(),
        got: errno.to_string(),
    })?;
    for command in case["before"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        // Other programs write to the tables of iptables that the node uses.
        let flavour = if backend == Backend::Legacy { "legacy" } else { "nft" };
        world.node.shell(&command.replacen("iptables ", &format!("iptables-{flavour} "), 1));
    }
    let said = start_agent(&world.node, case, backend);
    if !said.is_empty() {
        return Err(Mismatch { expected: "no complaint".to_owned(), got: format!("{said:?}") });
    }
    let rows = case["rows"].as_array().ok_or_else(|| malformed("rows"))?;
    let ranges = ranges(&case["flags"]);
    for (port, row) in (FIRST_PORT..).zip(rows) {
        let wrong = |got: String| Mismatch { expected: row.to_string(), got };
        let once = check(&world, row, (port, &ranges));
        // One random port of 64,512 is the flow's own: a port that stays is wrong only when it stays twice.
        let is_random = row["port"] == "changed";
        let judged = if is_random { once.or_else(|_| check(&world, row, (port + SECOND_TRY, &ranges))) } else { once };
        judged.map_err(wrong)?;
    }
    Ok(())
}

/// The agent makes one pass on the node; what it complained of.
fn start_agent(node: &Host, case: &Value, backend: Backend) -> Vec<String> {
    let case = case.clone();
    node.run(move || {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::new(folder.path(), false);
        if let Some(text) = case["config"].as_str() {
            files.put(&json!({ "ip-masq-agent": text }));
        }
        let tools = Tools::of(&case, backend, folder.path());
        let mut agent = Agent::start(&case["agent"], &case["flags"], (&files, &tools, backend));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(agent.pass())
    })
}

/// The ranges of `--to-ports`.
fn ranges(flags: &Value) -> Vec<RangeInclusive<u16>> {
    let flags = flags.as_array().into_iter().flatten().filter_map(Value::as_str);
    let listed = flags.filter_map(|flag| flag.strip_prefix("--to-ports=")).flat_map(|list| list.split(','));
    let port = |text: &str| text.parse().expect("a port");
    listed.map(|range| range.split_once('-').unwrap_or((range, range))).map(|(a, b)| port(a)..=port(b)).collect()
}

fn check(world: &World, row: &Value, (port, ranges): (u16, &[RangeInclusive<u16>])) -> Result<(), String> {
    let text = |field: &str| row[field].as_str();
    let address = |name: &str| -> Result<IpAddr, String> {
        match name {
            "EXTLL" => Ok(world.ext_link_local.into()),
            "NODELL" => Ok(world.node_link_local.into()),
            other => other.parse().map_err(|error| format!("{other:?}: {error}")),
        }
    };
    let host = match text("from") {
        Some("pod") => &world.pod,
        Some("node") => &world.node,
        Some("ext") => &world.ext,
        other => return Err(format!("from {other:?}")),
    };
    let protocol = if text("proto") == Some("tcp") { Protocol::Tcp } else { Protocol::Udp };
    let to = address(text("dst").unwrap_or_default())?;
    let source = text("src").map(address).transpose()?;
    let seen = world.ask(host, protocol, to, (source, port))?;
    let expected = address(text("seen").unwrap_or_default())?;
    let kept = seen.port() == port;
    let is_right = match text("port") {
        Some("kept") => kept,
        Some("changed") => !kept,
        Some("in-range") => ranges.iter().any(|range| range.contains(&seen.port())),
        Some("any") => true,
        other => return Err(format!("port {other:?}")),
    };
    if seen.ip() == expected && is_right { Ok(()) } else { Err(format!("{seen} from port {port}")) }
}
