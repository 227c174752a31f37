//! `ipmasq`: what a masquerade agent leaves in the kernel, replayed by the subsystem over the real iptables.
//!
//! Each case runs on a thread in a network namespace of its own, once with iptables-nft and once with iptables-legacy.
//! The recorded command line becomes a section of a profile that reads the recorded files in place. A recorded restart
//! stops one agent and starts another on the same kernel state: here, an agent with an empty state directory.

mod agent;
mod kernel;
pub(crate) mod packets;
#[path = "../kernel/support/world.rs"]
mod world;

use std::thread;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use trimtab_domain::masquerade::{Backend, Family};

use self::agent::Agent;
use self::kernel::{Kernel, Tools, by_chain};
use crate::category::{Mismatch, Verdict, malformed, same};
use crate::machine::Machines;

/// `ipmasq`.
pub(crate) fn judge(case: &Value, _: &Machines) -> Verdict {
    [Backend::Nft, Backend::Legacy].into_iter().try_for_each(|backend| {
        let ended = thread::scope(|scope| scope.spawn(|| in_namespace(case, backend)).join());
        let verdict = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        verdict.map_err(|mismatch| Mismatch { got: format!("with iptables-{backend}: {}", mismatch.got), ..mismatch })
    })
}

/// True for a case that records what is not to be copied; it neither passes nor fails.
pub(crate) fn is_defect(case: &str) -> bool {
    serde_json::from_str::<Value>(case).is_ok_and(|case| case["defect"] == true)
}

fn in_namespace(case: &Value, backend: Backend) -> Verdict {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Mismatch {
        expected: "a fresh network namespace (needs root)".to_owned(),
        got: errno.to_string(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| malformed(&error.to_string()))?;
    runtime.block_on(replay(case, backend))
}

async fn replay(case: &Value, backend: Backend) -> Verdict {
    let folder = tempfile::tempdir().map_err(|error| malformed(&error.to_string()))?;
    let kernel = Kernel { backend };
    for (family, field) in [(Family::V4, "preexisting"), (Family::V6, "preexisting_v6")] {
        if let Some(text) = case[field].as_str() {
            kernel.load(family, text);
        }
    }
    let tools = Tools::of(case, backend, folder.path());
    let files = kernel::Files::new(folder.path(), case["no_config_dir"] == true);
    files.put(&case["files"]);
    let mut agent = Agent::start(&case["agent"], &case["flags"], (&files, &tools, backend));
    compare(&case["expect"], &agent.pass().await, &kernel).map_err(|mismatch| at("the start", mismatch))?;
    for (number, step) in (1..).zip(case["steps"].as_array().into_iter().flatten()) {
        let change = &step["change"];
        if change["remove_config_dir"] == true {
            files.remove_directory();
        }
        files.put(&change["files"]);
        kernel.change(change);
        if change["restart"] == true {
            let name = if change["agent"].is_null() { &case["agent"] } else { &change["agent"] };
            agent = Agent::start(name, &change["flags"], (&files, &tools, backend));
        }
        let said = if change["signal"].is_null() { agent.pass().await } else { agent.stop().await };
        compare(&step["expect"], &said, &kernel).map_err(|mismatch| at(&format!("step {number}"), mismatch))?;
    }
    Ok(())
}

fn at(place: &str, mismatch: Mismatch) -> Mismatch {
    Mismatch { expected: format!("at {place}: {}", mismatch.expected), ..mismatch }
}

/// The rules, and what was said.
fn compare(expect: &Value, said: &[String], kernel: &Kernel) -> Verdict {
    let unordered = expect["unordered_cidrs"] == true;
    for (family, field) in [(Family::V4, "nat_v4"), (Family::V6, "nat_v6")] {
        let lines: Vec<&str> = expect[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        same(&by_chain(&lines.join("\n"), unordered), &by_chain(&kernel.save(family), unordered))?;
    }
    let error = &expect["error"];
    let wrong = |expected: String| Mismatch { expected, got: format!("said {said:?}") };
    if let Some(text) = error["text"].as_str().or_else(|| expect["stderr_first_line"].as_str()) {
        // What follows says what becomes of the rules, which the originals do not.
        let is_said =
            said.iter().any(|line| line == text || line.rsplit_once("; ").is_some_and(|(line, _)| line == text));
        return if is_said { Ok(()) } else { Err(wrong(text.to_owned())) };
    }
    match (error["prefix"].as_str(), error["from"].as_str()) {
        (Some(prefix), Some("library")) if !said.iter().any(|line| line.starts_with(prefix)) => {
            Err(wrong(format!("{prefix}…")))
        }
        // The tools are called in another way, and their words are theirs.
        (Some(prefix), _) if said.is_empty() => Err(wrong(format!("{prefix}…, or any complaint"))),
        (None, _) if !said.is_empty() && expect["exit_code"].as_i64() != Some(0) => {
            Err(wrong("no complaint".to_owned()))
        }
        _ => Ok(()),
    }
}
