//! Commands that ask the running agent: `status`, `pods`.

use anyhow::Context;

use crate::cli::{ClientArgs, exit, output, pods, status};
use crate::client::{self, Client, ClientError};

/// Shows what the agent holds, refuses and found.
pub(super) fn status(args: &ClientArgs) -> anyhow::Result<u8> {
    ask(
        args,
        async |mut client| client.report().await,
        |report| output::print(args.output, &status::Status::from(report), status::render),
    )
}

/// Shows who holds which CPUs and memory.
pub(super) fn pods(args: &ClientArgs) -> anyhow::Result<u8> {
    ask(
        args,
        async |mut client| client.placements().await,
        |placements| output::print(args.output, &pods::Placements::from(placements), pods::render),
    )
}

fn ask<T>(
    args: &ClientArgs,
    question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    show: impl FnOnce(T) -> Result<(), output::PrintError>,
) -> anyhow::Result<u8> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let answer = runtime.block_on(async { question(client::connect(&args.socket).await?).await });
    match answer {
        Ok(answer) => {
            show(answer)?;
            Ok(exit::OK)
        }
        Err(error) => {
            output::complain(&error.into());
            Ok(exit::NO_AGENT)
        }
    }
}
