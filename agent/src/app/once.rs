//! Commands that act once: `plan`, `apply`, `rollback`.

use std::time::SystemTime;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use trimtab_domain::spec::NodeSpec;

use super::cluster::access;
use super::leave::end_migration;
use super::node::{self, Node};
use super::pause::paused_until;
use crate::adapters::api_server::{Access, connect};
use crate::adapters::ledger::DiskLedger;
use crate::adapters::profile_file;
use crate::cli::plan::{self, SubsystemPlan, Tense};
use crate::cli::{PlanArgs, RollbackArgs, check, exit, output};
use crate::cluster::farewell;
use crate::config::Output;
use crate::lifecycle;
use crate::profile::Diagnostic;
use crate::profile::check::Verdict;
use crate::reconcile::engine::Held;

/// Shows what would change.
pub(super) fn plan(args: &PlanArgs) -> anyhow::Result<u8> {
    let Some(spec) = read_profile(args)? else { return Ok(exit::INVALID_PROFILE) };
    let (ledger, findings) = DiskLedger::peek(&args.node.state_dir)?;
    node::warn_of(&findings);
    let node = node::compose(&args.node, ledger)?;
    let plans = runtime()?.block_on(preview(&node.subsystems, &spec));
    print(args.output, &plans, Tense::Would)
}

/// Applies the profile once.
pub(super) fn apply(args: &PlanArgs) -> anyhow::Result<u8> {
    let Some(spec) = read_profile(args)? else { return Ok(exit::INVALID_PROFILE) };
    if let Some(until) = paused_until(&spec, SystemTime::now()) {
        let until = humantime::format_rfc3339_seconds(until);
        bail!(
            "the profile pauses this node until {until}, nothing was changed; wait, or take pause out of the profile"
        );
    }
    let _locks = node::lock(&args.node)?;
    let (ledger, findings) = DiskLedger::open(&args.node.state_dir)?;
    node::warn_of(&findings);
    let node = node::compose(&args.node, ledger)?;
    let plans = runtime()?.block_on(settle(&node.subsystems, &spec))?;
    print(args.output, &plans, Tense::Did)
}

/// Gives back what was there before: a pass with the empty specification.
pub(super) fn rollback(args: &RollbackArgs) -> anyhow::Result<u8> {
    let nothing = NodeSpec::default();
    let locks = if args.dry_run { None } else { Some(node::lock(&args.node)?) };
    let state_dir = &args.node.state_dir;
    let (ledger, findings) = if args.dry_run { DiskLedger::peek(state_dir) } else { DiskLedger::open(state_dir) }?;
    node::warn_of(&findings);
    let Node { mut subsystems, migration, .. } = node::compose(&args.node, ledger)?;
    // A node that nobody holds any more must not stay cordoned, or half moved.
    if args.subsystems.is_empty()
        && let Some(code) = end_migration(args, migration)?
    {
        return Ok(code);
    }
    subsystems
        .retain(|subsystem| args.subsystems.is_empty() || args.subsystems.iter().any(|name| name == subsystem.name()));
    let is_dry = locks.is_none();
    let mut plans = match is_dry {
        true => runtime()?.block_on(preview(&subsystems, &nothing)),
        false => runtime()?.block_on(settle(&subsystems, &nothing))?,
    };
    // Last, so that nobody is told that all is gone while it is not.
    if args.subsystems.is_empty()
        && let Some(access) = access(&args.api)?
    {
        let node = node::name(&args.node)?;
        plans.push(runtime()?.block_on(take_leave(&access, &node, is_dry)));
    }
    print(args.output, &plans, if is_dry { Tense::Would } else { Tense::Did })
}

/// Takes away what the API server was told of the node, or says what that would be. Where that cannot be done, the node has
/// still been given back: a warning, and no failure.
async fn take_leave(access: &Access, node: &str, is_dry: bool) -> SubsystemPlan {
    let api = match connect(access).await {
        Ok(api) => api,
        Err(error) => return SubsystemPlan::of_objects(Vec::new(), Some(format!("{:#}", anyhow::Error::from(error)))),
    };
    let (steps, error) = if is_dry {
        farewell::leftovers(&api, node).await.map_or_else(|error| (Vec::new(), Some(error)), |found| (found, None))
    } else {
        farewell::take_leave(&api, node).await
    };
    let steps = steps.iter().map(ToString::to_string).collect();
    SubsystemPlan::of_objects(steps, error.map(|error| error.to_string()))
}

/// The specification of the profile file; `None` after its errors have been printed.
fn read_profile(args: &PlanArgs) -> anyhow::Result<Option<NodeSpec>> {
    match profile_file::read(&args.node.profile) {
        Ok(profile) => Ok(Some(profile.spec)),
        Err(rejected) => {
            let file = args.node.profile.display().to_string();
            let errors: Vec<Diagnostic> = rejected.diagnostics;
            let verdict = Verdict { file, valid: false, name: String::new(), errors, warnings: Vec::new() };
            output::warn(&check::render(&verdict));
            Ok(None)
        }
    }
}

async fn preview(subsystems: &[Box<dyn Held>], spec: &NodeSpec) -> Vec<SubsystemPlan> {
    let mut plans = Vec::new();
    for subsystem in subsystems {
        plans.push(match subsystem.preview(spec).await {
            Ok(preview) => SubsystemPlan::planned(subsystem.name(), preview),
            Err(error) => SubsystemPlan::failed(subsystem.name(), error.chain()),
        });
    }
    plans
}

async fn settle(subsystems: &[Box<dyn Held>], spec: &NodeSpec) -> anyhow::Result<Vec<SubsystemPlan>> {
    let cancel = CancellationToken::new();
    lifecycle::cancel_on_signal(cancel.clone()).context("cannot install signal handlers")?;
    let mut plans = Vec::new();
    for subsystem in subsystems {
        plans.push(SubsystemPlan::done(subsystem.name(), subsystem.settle(spec, &cancel).await));
    }
    Ok(plans)
}

pub(super) fn print(output: Output, plans: &Vec<SubsystemPlan>, tense: Tense) -> anyhow::Result<u8> {
    output::print(output, plans, |plans| plan::render(plans, tense))?;
    let failed = plans.iter().any(|plan| plan.error.is_some());
    let changes = plans.iter().any(|plan| !plan.steps.is_empty());
    Ok(match (failed, tense, changes) {
        (true, ..) => exit::FAILED,
        (false, Tense::Would, true) => exit::WOULD_CHANGE,
        _ => exit::OK,
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
