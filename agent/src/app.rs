//! The composition root: the only room that knows every other.

mod ask;
mod cluster;
mod command;
mod daemon;
mod follow;
mod import;
mod leave;
mod node;
mod nri;
mod once;
mod pause;
mod profiles;
mod record;
mod rehearse;
mod survey;

use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::{CheckArgs, Cli, Command, ImportFrom, check, exit, man, output};
use crate::cluster::crd;
use crate::profile;

/// Runs a command; the number is the exit code.
///
/// # Errors
/// Whatever ended the command, with its causes.
pub fn execute(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => daemon::run(&args),
        Command::Plan(args) if args.running => command::plan(&args),
        Command::Plan(args) => once::plan(&args.plan),
        Command::Apply(args) => once::apply(&args),
        Command::Rollback(args) => match args.length {
            Some(length) => command::roll_back(&args, length),
            None => once::rollback(&args),
        },
        Command::Status(args) => ask::status(&args),
        Command::Pods(args) => ask::pods(&args),
        Command::Topology(args) => ask::topology(&args),
        Command::Explain(args) => ask::explain(&args),
        Command::History(args) => ask::history(&args),
        Command::Watch(args) => follow::watch(&args),
        Command::Resync(args) => command::resync(&args),
        Command::Pause(args) => command::pause(&args),
        Command::Resume(args) => command::resume(&args),
        Command::Check(args) => check_profile(&args),
        Command::Import { from: ImportFrom::IpMasq(args) } => import::ip_masq(&args),
        Command::Cluster { command } => survey::run(&command),
        Command::Crd => {
            let manifests = crd::manifests().context("cannot write the definitions as YAML")?;
            let texts: Vec<String> = manifests.into_iter().map(|(_, text)| text).collect();
            output::write(texts.join("---\n").as_bytes())?;
            Ok(exit::OK)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "trimtab", &mut text);
            output::write(&text)?;
            Ok(exit::OK)
        }
        Command::Man { directory } => write_manual(&directory),
    }
}

fn write_manual(directory: &Path) -> anyhow::Result<u8> {
    let shown = directory.display();
    #[expect(clippy::disallowed_methods, reason = "the directory is the caller's, not the host's")]
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make the directory {shown}"))?;
    for (name, page) in man::pages(Cli::command()) {
        write_file(&directory.join(name), &page)?;
    }
    Ok(exit::OK)
}

/// Writes a file of the caller's, not of the host's.
fn write_file(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the file is the caller's, not the host's")]
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn check_profile(args: &CheckArgs) -> anyhow::Result<u8> {
    let name = args.file.display().to_string();
    let mut text = Vec::new();
    // One byte more than is allowed is enough to be refused for its size.
    let limit = u64::try_from(profile::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    if name == "-" {
        io::stdin().take(limit).read_to_end(&mut text).context("cannot read standard input")?;
    } else {
        #[expect(clippy::disallowed_methods, reason = "the file is the caller's, not the host's")]
        let file = std::fs::File::open(&args.file).with_context(|| format!("cannot open {name}"))?;
        file.take(limit).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
    }
    let verdict = profile::check::check(&name, &text);
    output::print(args.output, &verdict, check::render)?;
    Ok(if verdict.valid { exit::OK } else { exit::INVALID_PROFILE })
}
