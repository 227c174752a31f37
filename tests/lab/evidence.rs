//! What a failed run leaves behind for whoever looks for the cause: the machine is gone a moment later.

use std::panic;
use std::process::Command;

use crate::agent::log;

/// Commands whose output is shown, with what they show.
const LOOKS: [(&str, &[&str]); 4] = [
    (
        "the runtime's journal",
        &["journalctl", "-q", "--no-pager", "-o", "short-monotonic", "-n", "60", "-u", "containerd"],
    ),
    ("the kernel", &["dmesg", "--time-format", "reltime"]),
    ("processes", &["ps", "-eo", "pid,ppid,stat,wchan:24,etimes,time,args", "--sort=-time"]),
    ("load", &["cat", "/proc/loadavg", "/proc/uptime", "/proc/meminfo"]),
];
const LINES: usize = 60;

/// From now on a panic shows, after its own words, how the machine is.
pub(crate) fn shown_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |why| {
        before(why);
        println!("---- the agent\n{}", log());
        for (what, command) in LOOKS {
            println!("---- {what}\n{}", look(command));
        }
    }));
}

/// The last lines that a program prints, or why there are none.
fn look(command: &[&str]) -> String {
    let [program, arguments @ ..] = command else { return String::new() };
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = text.lines().collect();
            let first = if *program == "ps" { 0 } else { lines.len().saturating_sub(LINES) };
            lines.into_iter().skip(first).take(LINES).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{program}: {error}"),
    }
}
