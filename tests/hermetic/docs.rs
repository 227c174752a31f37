//! The README and the pages below docs say what the program says: flags, metrics, commands, the API.

mod api;
mod ask;
mod profiles;

use clap::CommandFactory;
use trimtab::cli::Cli;

const README: &str = include_str!("../../README.md");

#[test]
fn every_flag_environment_variable_and_command_is_in_the_readme() {
    let cli = Cli::command();
    for command in cli.get_subcommands() {
        let name = command.get_name();
        assert!(README.contains(&format!("`trimtab {name}")), "command {name}");
        for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
            let long = argument.get_long().unwrap_or_default();
            if ["help", "output", "dry-run"].contains(&long) {
                continue;
            }
            let begins = [format!("| `--{long} "), format!("| `--{long}`")];
            let row = README.lines().find(|line| begins.iter().any(|begin| line.starts_with(begin)));
            let row = row.unwrap_or_else(|| panic!("{name} --{long}"));
            if let Some(variable) = argument.get_env() {
                assert!(row.contains(&format!("`{}`", variable.to_string_lossy())), "--{long}: {row}");
            }
            for value in argument.get_default_values().iter().filter(|value| !value.is_empty()) {
                assert!(row.contains(&format!("`{}`", value.to_string_lossy())), "--{long}: {row}");
            }
        }
    }
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let golden = include_str!("../golden/metrics.md");
    assert!(README.contains(golden.trim()), "copy tests/golden/metrics.md into the README");
}

#[test]
fn the_table_of_the_kubelets_metrics_is_that_of_the_code() {
    let golden = include_str!("../golden/kubelet-metrics.md");
    assert!(
        include_str!("../../docs/metrics.md").contains(golden.trim()),
        "copy tests/golden/kubelet-metrics.md into docs/metrics.md"
    );
}
