//! Commands that act once: `plan`, `apply`, `rollback`.

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use trimtab_domain::spec::NodeSpec;

use super::node::{self, Node};
use crate::adapters::ledger::DiskLedger;
use crate::adapters::profile_file;
use crate::cli::plan::{self, SubsystemPlan, Tense};
use crate::cli::{PlanArgs, RollbackArgs, check, exit, output};
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
    let Node { mut subsystems, .. } = node::compose(&args.node, ledger)?;
    subsystems
        .retain(|subsystem| args.subsystems.is_empty() || args.subsystems.iter().any(|name| name == subsystem.name()));
    if locks.is_none() {
        let plans = runtime()?.block_on(preview(&subsystems, &nothing));
        return print(args.output, &plans, Tense::Would);
    }
    let plans = runtime()?.block_on(settle(&subsystems, &nothing))?;
    print(args.output, &plans, Tense::Did)
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
