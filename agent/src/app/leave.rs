//! A node that is given back while it is on its way to another cgroup driver: it is brought back first, or nothing is done.

use anyhow::{Context, anyhow};
use trimtab_domain::migration::Outcome;
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::cluster::access;
use super::node;
use crate::adapters::api_server::{Access, connect};
use crate::adapters::migration_file::MigrationFile;
use crate::cli::{RollbackArgs, exit, output};
use crate::cluster::migration::MigrationPorts;
use crate::cluster::migration::leave::{turn_back, under_way};

/// What a person can do.
const REMEDY: &str = "nothing was given back; bring it to an end first: `trimtab rollback` does where it reaches the API server, \
                      systemd and the container runtime (deploy/uninstall-migration), an agent does with cgroup.onMismatch: \
                      Report; or by hand (docs/kubernetes.md)";

/// Ends a migration that is under way. An exit code if that is not possible: then nothing else may be done.
pub(super) fn end_migration(args: &RollbackArgs, ports: Option<MigrationPorts>) -> anyhow::Result<Option<u8>> {
    let target = match under_way(&MigrationFile::of(&args.node.state_dir)) {
        Ok(None) => return Ok(None),
        Ok(Some(target)) => target,
        Err(error) => return Ok(Some(refused(error.into()))),
    };
    if args.dry_run {
        output::warn(&format!("This node is on its way to cgroup driver {target}; it would be brought back first.\n"));
        return Ok(None);
    }
    let unable = |lacking: &str| anyhow!("this node is on its way to cgroup driver {target}, and there is {lacking}");
    let Some(access) = access(&args.api)? else { return Ok(Some(refused(unable("no API server to speak with")))) };
    let Some(ports) = ports else { return Ok(Some(refused(unable("no container runtime to speak with")))) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.context("cannot start the runtime")?.block_on(bring_back(args, (&access, ports), target));
    Ok(ended.err().map(refused))
}

fn refused(error: anyhow::Error) -> u8 {
    output::complain(&error.context(REMEDY));
    exit::MOVING
}

async fn bring_back(
    args: &RollbackArgs,
    (access, mut ports): (&Access, MigrationPorts),
    target: CgroupDriver,
) -> anyhow::Result<()> {
    let api = connect(access).await?;
    if matches!(access, Access::ServiceAccount { .. }) {
        // Where the agents have their places in the budget.
        api.namespace().clone_into(&mut ports.namespace);
    }
    output::warn(&format!("This node is on its way to cgroup driver {target}; it is brought back first.\n"));
    let mut said = String::new();
    let outcome = turn_back((api, node::name(&args.node)?), ports, |progress| {
        if progress.message != said {
            said.clone_from(&progress.message);
            output::warn(&format!("  {said}\n"));
        }
    });
    match outcome.await? {
        Some(Outcome::Migrated) => output::warn("It had arrived, and stays there.\n"),
        Some(Outcome::TurnedBack { .. }) | None => output::warn("It is as before.\n"),
    }
    Ok(())
}
