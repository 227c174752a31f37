//! Commands that ask the running agent: `status`, `pods`, `topology`, `explain`, `history`.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use tonic::Code;
use trimtab_proto::node::v1alpha1::ListHistoryRequest;

use crate::cli::output::Detail;
use crate::cli::{ClientArgs, ExplainArgs, HistoryArgs, TopologyArgs, exit, output, pods, status, topology};
use crate::cli::{explain as explained, history as changes};
use crate::client::{self, Client, ClientError};
use crate::config::AnswerOutput;
use crate::picture::svg;

/// Changes that `explain` looks through.
const CHANGES_LOOKED_THROUGH: u32 = 1_000;

/// Shows what the agent holds, refuses and found.
pub(super) fn status(args: &ClientArgs) -> anyhow::Result<u8> {
    ask(
        args,
        async |mut client| client.report().await,
        |report| {
            let data = status::Status::from(report);
            output::print(args.output.form(), &data, |data| status::render(data, detail(args)))?;
            Ok(())
        },
    )
}

/// Shows who holds which CPUs and memory.
pub(super) fn pods(args: &ClientArgs) -> anyhow::Result<u8> {
    ask(
        args,
        async |mut client| client.placements().await,
        |placements| {
            let data = pods::Placements::from(placements);
            output::print(args.output.form(), &data, |data| pods::render(data, detail(args)))?;
            Ok(())
        },
    )
}

/// Draws the machine and who uses it.
pub(super) fn topology(args: &TopologyArgs) -> anyhow::Result<u8> {
    ask(
        &args.client,
        async |mut client| client.topology().await,
        |answer| {
            let facts = topology::from_wire(answer);
            match &args.svg {
                Some(path) if path.as_os_str() == "-" => output::write(svg::document(&facts).as_bytes())?,
                Some(path) => super::write_file(path, svg::document(&facts).as_bytes())?,
                None => {
                    let detail = detail(&args.client);
                    let data = topology::TopologyData::from(&facts);
                    output::print(args.client.output.form(), &data, |_| topology::render(&facts, detail))?;
                }
            }
            Ok(())
        },
    )
}

/// Says who holds a CPU, what a pod has, or what became of a wish.
pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<u8> {
    let mut found = true;
    let code = ask(
        &args.client,
        async |mut client| {
            let request = ListHistoryRequest { page_size: CHANGES_LOOKED_THROUGH, ..ListHistoryRequest::default() };
            Ok(explained::Snapshot {
                report: client.report().await?,
                placements: client.placements().await?,
                topology: topology::from_wire(client.topology().await?),
                changes: client.history(request).await?.changes,
            })
        },
        |snapshot| {
            let stories = explained::explain(&args.what, &snapshot);
            found = !stories.is_empty();
            if found {
                output::print(args.client.output.form(), &stories, |stories| explained::render(stories))?;
            }
            Ok(())
        },
    )?;
    if found || code != exit::OK {
        return Ok(code);
    }
    output::complain(&anyhow::anyhow!(
        "the agent knows nothing by the name {:?}; name a CPU by its number, a pod or container as `trimtab pods` does, or an \
         object as `trimtab status -o json` does",
        args.what
    ));
    Ok(exit::UNKNOWN)
}

/// Shows what was changed.
pub(super) fn history(args: &HistoryArgs) -> anyhow::Result<u8> {
    let since = args.since.map(|since| SystemTime::now().checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH));
    let request = ListHistoryRequest {
        subsystems: args.subsystems.clone(),
        contains: args.object.clone(),
        since: since.map(Into::into),
        page_size: args.limit,
        ..ListHistoryRequest::default()
    };
    ask(
        &args.client,
        async |mut client| client.history(request).await,
        |answer| {
            let data = changes::History::from(answer);
            output::print(args.client.output.form(), &data, |data| changes::render(data, detail(&args.client)))?;
            Ok(())
        },
    )
}

fn detail(args: &ClientArgs) -> Detail {
    if args.output == AnswerOutput::Wide { Detail::Wide } else { Detail::Normal }
}

/// Asks the agent and shows its answer; what it does not answer is said with the way to it.
pub(super) fn ask<T>(
    args: &ClientArgs,
    question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    show: impl FnOnce(T) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    match answer(&args.socket, question)? {
        Ok(answer) => {
            show(answer)?;
            Ok(exit::OK)
        }
        Err(error) => Ok(refused(error)),
    }
}

/// The agent's answer.
pub(super) fn answer<T>(
    socket: &Path,
    question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
) -> anyhow::Result<Result<T, ClientError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    Ok(runtime.block_on(async { question(client::connect(socket).await?).await }))
}

/// Says why there is no answer; the exit code.
pub(super) fn refused(error: ClientError) -> u8 {
    let code = match &error {
        ClientError::Refused { code: Code::PermissionDenied, .. } => exit::DENIED,
        ClientError::Refused { code: Code::InvalidArgument, .. } => exit::USAGE,
        ClientError::Refused { code: Code::ResourceExhausted | Code::DeadlineExceeded, .. } => exit::FAILED,
        _ => exit::NO_AGENT,
    };
    let unreachable = matches!(error, ClientError::Unreachable { .. });
    output::complain(&error.into());
    if unreachable {
        output::warn(
            "to ask from outside the node: kubectl -n trimtab-system exec POD -- trimtab status\n(POD is the one of the \
             DaemonSet on that node: kubectl -n trimtab-system get pods -o wide)\n",
        );
    }
    code
}
