//! Entry point of the `trimtab` program: command line, log, exit code.

use std::process::ExitCode;

use trimtab::cli::{Cli, Command, exit, output};
use trimtab::{app, telemetry};

fn main() -> ExitCode {
    let cli = match Cli::of_process() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version are answers, not errors.
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    // The daemon's log is its record; a command that acts once prints what it did.
    // Each failed request is spoken of by whoever made it, so the client's own words would say it twice.
    let level = match cli.command {
        Command::Run(_) => "info,kube_client=off",
        _ => "warn,kube_client=off",
    };
    telemetry::start(cli.log.as_deref().unwrap_or(level), cli.log_format, cli.color());
    output::choose_color(cli.color());
    match app::execute(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::complain(&error);
            ExitCode::from(exit::FAILED)
        }
    }
}
