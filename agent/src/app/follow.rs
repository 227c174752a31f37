//! `watch`: a line whenever something changes, until interrupted.

use std::time::Duration;

use anyhow::Context;
use tonic::{Code, Streaming};
use trimtab_proto::node::v1alpha1::{ListHistoryRequest, WatchPart, WatchRequest, WatchResponse};

use super::ask::refused;
use crate::cli::history::Change;
use crate::cli::output::PrintError;
use crate::cli::watch::{Event, Follower};
use crate::cli::{WatchArgs, exit, output};
use crate::client::{self, Client, ClientError};
use crate::config::Output;

/// Pause before an agent that went away is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Changes that are told at once; older ones are for `history`.
const CHANGES: u32 = 1_000;

/// Why a watch has ended.
enum End {
    /// Nobody reads what is printed.
    Print(PrintError),
    /// The agent.
    Client(ClientError),
}

/// Watches until interrupted; an agent that restarts is watched again.
pub(super) fn watch(args: &WatchArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let mut follower = Follower::default();
        loop {
            match follow(args, &mut follower).await {
                Ok(()) => return Ok(exit::OK),
                Err(End::Print(error)) => return Err(error.into()),
                Err(End::Client(error)) if follower.told.is_some() && passes(&error) => {
                    output::warn("the agent has gone away; waiting for it\n");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(End::Client(error)) => return Ok(refused(error)),
            }
        }
    })
}

/// True if the agent may answer again soon.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Refused { code, .. } => {
            !matches!(code, Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented)
        }
        ClientError::NotText { .. } => false,
    }
}

/// Prints what one connection tells, until it ends.
async fn follow(args: &WatchArgs, follower: &mut Follower) -> Result<(), End> {
    let mut client = client::connect(&args.client.socket).await.map_err(End::Client)?;
    let request = WatchRequest {
        parts: vec![WatchPart::Node.into(), WatchPart::Subsystems.into()],
        subsystems: args.subsystems.clone(),
        resume_version: follower.version,
    };
    let mut messages: Streaming<WatchResponse> = client.watch(request).await.map_err(End::Client)?;
    loop {
        let message = match messages.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(status) => return Err(End::Client(client.interrupted(&status))),
        };
        let newest = message.newest_change_id;
        let mut events = follower.take(message);
        if let Some(told) = follower.told.filter(|told| *told < newest) {
            events.extend(changes(&mut client, args, told).await.map_err(End::Client)?);
        }
        follower.told = Some(newest);
        for event in &events {
            print(args, event).map_err(End::Print)?;
        }
    }
}

/// The changes since, the oldest first.
async fn changes(client: &mut Client, args: &WatchArgs, told: u64) -> Result<Vec<Event>, ClientError> {
    let request = ListHistoryRequest {
        subsystems: args.subsystems.clone(),
        after_id: told,
        page_size: CHANGES,
        ..ListHistoryRequest::default()
    };
    let answer = client.history(request).await?;
    Ok(answer.changes.into_iter().rev().map(|change| Event::Change(Change::from(change))).collect())
}

fn print(args: &WatchArgs, event: &Event) -> Result<(), PrintError> {
    match args.client.output.form() {
        // One line each, so that a program can read them one by one.
        Output::Json => {
            let line = serde_json::to_string(event).map_err(|error| PrintError::Render(error.to_string()))?;
            output::write(format!("{line}\n").as_bytes())
        }
        Output::Yaml => {
            output::write(b"---\n")?;
            output::print(Output::Yaml, event, |_| String::new())
        }
        Output::Table => output::write(format!("{}\n", event.line()).as_bytes()),
    }
}
