//! The lab seen from outside: what goes into a machine, and what came out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::cluster::containerd::make_images;
use crate::cluster::wait::timed;

/// What is to be done.
pub(crate) struct Order {
    agent: PathBuf,
    churn: u32,
    topologies: Vec<String>,
}

impl Order {
    pub(crate) fn parse(mut arguments: &[&str]) -> Self {
        let mut order =
            Self { agent: env!("CARGO_BIN_EXE_trimtab").into(), churn: 200, topologies: vec!["two".to_owned()] };
        while let [name, value, rest @ ..] = arguments {
            match *name {
                "--agent" => order.agent = std::path::absolute(value).unwrap(),
                "--churn" => order.churn = value.parse().unwrap(),
                _ => break,
            }
            arguments = rest;
        }
        if !arguments.is_empty() {
            order.topologies = arguments.iter().copied().map(str::to_owned).collect();
        }
        order
    }
}

/// Boots one machine after another: two at once gain nothing on few cores.
pub(crate) fn boot(order: &Order) -> ExitCode {
    for topology in &order.topologies {
        let folder = tempfile::tempdir().unwrap();
        if let Err(why) = fill(folder.path(), order, topology) {
            eprintln!("the lab cannot run: {why}");
            return ExitCode::FAILURE;
        }
        let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/machine.sh");
        // A pod costs some seconds in an emulated machine; half a minute where others need the CPUs as well.
        let limit = 1200 + order.churn * 30;
        let mut command = Command::new(machine);
        let hardware = if topology == "migration" { "two" } else { topology };
        command.arg(hardware).arg(folder.path()).arg(limit.to_string());
        let (status, took) = timed(|| command.status().unwrap());
        println!("machine {topology}: {status}, {} s", took.as_secs());
        if !status.success() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn fill(folder: &Path, order: &Order, topology: &str) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    make_images(folder)?;
    fs::copy(&order.agent, folder.join("trimtab")).map_err(text)?;
    fs::copy(std::env::current_exe().map_err(text)?, folder.join("lab")).map_err(text)?;
    let run = folder.join("run");
    let what = if topology == "migration" { topology.to_owned() } else { format!("inside {topology} {}", order.churn) };
    fs::write(&run, format!("#!/bin/sh\nexec /lab/lab {what}\n")).map_err(text)?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).map_err(text)
}
