//! Commands that ask the running agent: `status`, `pods`, `topology`.

use anyhow::Context;

use crate::cli::output::Detail;
use crate::cli::{ClientArgs, TopologyArgs, exit, output, pods, status, topology};
use crate::client::{self, Client, ClientError};
use crate::config::AnswerOutput;
use crate::picture::svg;

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

fn detail(args: &ClientArgs) -> Detail {
    if args.output == AnswerOutput::Wide { Detail::Wide } else { Detail::Normal }
}

fn ask<T>(
    args: &ClientArgs,
    question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    show: impl FnOnce(T) -> anyhow::Result<()>,
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
