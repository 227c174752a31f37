//! Commands that the running agent obeys: `plan --running`, `resync`, `pause`, `resume`, `rollback --for`.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use trimtab_proto::node::v1alpha1::{PauseRequest, PlanRequest, ResumeRequest, ResyncRequest, RollbackRequest};

use super::ask::{answer, ask, refused};
use super::once;
use crate::cli::plan::{SubsystemPlan, Tense};
use crate::cli::status::Pause;
use crate::cli::{PauseArgs, PlanCommandArgs, ResumeArgs, ResyncArgs, RollbackArgs, exit, output};
use crate::config::Output;

/// Shows what the running agent would change.
pub(super) fn plan(args: &PlanCommandArgs) -> anyhow::Result<u8> {
    let profile = args.candidate.as_deref().map(read_candidate).transpose()?.unwrap_or_default();
    let request = PlanRequest { subsystems: Vec::new(), profile };
    let told = match answer(&args.socket, async |mut client| client.plan(request).await)? {
        Ok(told) => told,
        Err(error) => return Ok(refused(error)),
    };
    if !told.profile_errors.is_empty() {
        let candidate = args.candidate.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        output::complain(&anyhow::anyhow!("{candidate}: {}", told.profile_errors.join("; ")));
        return Ok(exit::INVALID_PROFILE);
    }
    let plans = told.plans.into_iter().map(SubsystemPlan::from).collect();
    once::print(args.plan.output, &plans, Tense::Would)
}

/// The text of a profile; one byte more than the agent takes is enough to be refused.
fn read_candidate(path: &Path) -> anyhow::Result<String> {
    const LIMIT: u64 = 60 * 1024 + 1;
    let mut text = String::new();
    #[expect(clippy::disallowed_methods, reason = "the file is the caller's, not the host's")]
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.take(LIMIT).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

/// Has passes made.
pub(super) fn resync(args: &ResyncArgs) -> anyhow::Result<u8> {
    let request = ResyncRequest { subsystems: args.subsystems.clone() };
    match answer(&args.client.socket, async |mut client| client.resync(request).await)? {
        Ok(told) => {
            let done = told.outcomes.into_iter().map(SubsystemPlan::from).collect();
            once::print(args.client.output.form(), &done, Tense::Did)
        }
        Err(error) => Ok(refused(error)),
    }
}

/// Has a subsystem given back and left so.
pub(super) fn roll_back(args: &RollbackArgs, length: Duration) -> anyhow::Result<u8> {
    let [subsystem] = args.subsystems.as_slice() else {
        anyhow::bail!("--for gives back one subsystem of a running agent; name exactly one");
    };
    let pause = Some(length.try_into().context("--for is too long")?);
    let request = RollbackRequest { subsystem: subsystem.clone(), pause, reason: args.reason.clone() };
    let told = match answer(&args.socket, async |mut client| client.roll_back(request).await)? {
        Ok(told) => told,
        Err(error) => return Ok(refused(error)),
    };
    let code = once::print(args.output, &told.outcome.into_iter().map(SubsystemPlan::from).collect(), Tense::Did)?;
    if args.output == Output::Table {
        let until = told.pause.map(Pause::from).map(|pause| pause.until).unwrap_or_default();
        output::write(format!("{subsystem} stays as it is until {until}.\n").as_bytes())?;
    }
    Ok(code)
}

/// Lets a subsystem observe and report only.
pub(super) fn pause(args: &PauseArgs) -> anyhow::Result<u8> {
    let duration = Some(args.length.try_into().context("--for is too long")?);
    let request = PauseRequest { subsystem: args.subsystem.clone(), duration, reason: args.reason.clone() };
    ask(
        &args.client,
        async |mut client| client.pause(request).await,
        |told| {
            let durable = told.durable;
            let pause = told.pause.map(Pause::from).context("the agent tells of no pause")?;
            output::print(args.client.output.form(), &pause, |pause| {
                let fleeting =
                    if durable { "" } else { "; it could not be written down, and ends when the agent restarts" };
                format!("{} is paused until {}{fleeting}\n", args.subsystem, pause.until)
            })?;
            Ok(())
        },
    )
}

/// Ends a pause.
pub(super) fn resume(args: &ResumeArgs) -> anyhow::Result<u8> {
    let request = ResumeRequest { subsystem: args.subsystem.clone() };
    ask(
        &args.client,
        async |mut client| client.resume(request).await,
        |told| {
            let still = told.pause.map(Pause::from);
            let data = serde_json::json!({
                "subsystem": args.subsystem, "wasPaused": told.was_paused, "pause": still,
            });
            output::print(args.client.output.form(), &data, |_| match (&still, told.was_paused) {
                (Some(still), _) => format!("{} stays paused until {} by {}\n", args.subsystem, still.until, still.by),
                (None, true) => format!("{} is held again\n", args.subsystem),
                (None, false) => format!("{} was not paused\n", args.subsystem),
            })?;
            Ok(())
        },
    )
}
