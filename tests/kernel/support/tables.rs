//! iptables' tables as another program changes and reads them.

use std::process::Command;

use trimtab_domain::masquerade::TableId;

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loads rules beside those that are there.
pub(crate) fn load(table: TableId, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules");
    std::fs::write(&path, text).unwrap();
    run(&format!("{}-restore", table.tool()), &["--noflush", "-w", "5", path.to_str().unwrap()]);
}

/// Table `nat` without the lines and counters that tell the time or the traffic.
pub(crate) fn print(table: TableId) -> String {
    let output = Command::new(format!("{}-save", table.tool())).args(["-t", "nat"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n").collect()
}
