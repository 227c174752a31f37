//! Manual pages from the command line itself.

use clap::Command;
use clap_mangen::Man;

/// The pages with their file names: `trimtab.1`, and `trimtab-COMMAND.1` for each command.
#[must_use]
pub fn pages(mut program: Command) -> Vec<(String, Vec<u8>)> {
    // Global flags reach the commands only now.
    program.build();
    let mut commands = Vec::new();
    collect(program.get_name(), &program, &mut commands);
    let page = |(name, command): (String, Command)| {
        let mut page = Vec::new();
        // Writing into memory cannot fail.
        let _written = Man::new(command).render(&mut page);
        (format!("{name}.1"), page)
    };
    commands.into_iter().map(page).collect()
}

/// The command and those below it, each under its whole name.
fn collect(name: &str, command: &Command, found: &mut Vec<(String, Command)>) {
    found.push((name.to_owned(), command.clone()));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        collect(&format!("{name}-{}", below.get_name()), below, found);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let program = Cli::command();
        let pages = pages(Cli::command());
        for command in program.get_subcommands() {
            let file = format!("trimtab-{}.1", command.get_name());
            let page = pages.iter().find(|(name, _)| *name == file).map(|(_, page)| String::from_utf8_lossy(page));
            let page = page.unwrap_or_else(|| panic!("{file} is missing"));
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for flag in shown.filter_map(|argument| argument.get_long()) {
                let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
                assert!(page.contains(&escaped), "{file} lacks --{flag}");
            }
            assert!(page.contains("no\\-color"), "{file} lacks the global flags");
        }
        assert!(
            pages.iter().any(|(name, _)| name == "trimtab-import-ip-masq.1"),
            "commands of commands have pages too"
        );
        let first = pages.first().map(|(_, page)| String::from_utf8_lossy(page)).unwrap_or_default();
        assert!(first.contains("no agent answers on the socket"), "exit codes are in the page of the program");
    }
}
