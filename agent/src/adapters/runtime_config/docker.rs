//! Docker: `daemon.json` and the daemon's flags (dockerd(8)).

use std::path::Path;

use serde_json::Value as Json;
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::{flag, read_text};
use crate::ports::HostFiles;
use crate::ports::kubelet::RuntimeSettings;

const DEFAULT_PATH: &str = "/etc/docker/daemon.json";
const OPTION: &str = "native.cgroupdriver=";

/// Reads the driver where one is set; the default depends on the cgroup version and is no disagreement.
pub(super) fn read(files: &dyn HostFiles, command: Option<&Vec<String>>, settings: &mut RuntimeSettings) {
    let path = flag(command, &["--config-file"]).unwrap_or(DEFAULT_PATH);
    let mut found = None;
    if let Some(text) = read_text(files, Path::new(path), settings) {
        match serde_json::from_str::<Json>(&text) {
            Ok(root) => {
                let options = root.get("exec-opts").and_then(Json::as_array).into_iter().flatten();
                let mut options = options.filter_map(Json::as_str).filter_map(|option| option.strip_prefix(OPTION));
                found = options.next_back().map(|driver| (driver.to_owned(), path.to_owned()));
            }
            Err(error) => settings.problems.push(format!("{path} is no JSON: {error}")),
        }
    }
    if let Some(driver) = flag(command, &["--exec-opt"]).and_then(|option| option.strip_prefix(OPTION)) {
        found = Some((driver.to_owned(), "command line of the running dockerd".into()));
    }
    let Some((text, source)) = found else { return };
    let driver = match text.as_str() {
        "systemd" => CgroupDriver::Systemd,
        "cgroupfs" => CgroupDriver::Cgroupfs,
        other => {
            return settings
                .problems
                .push(format!("{source}: cgroup driver {other:?} is neither cgroupfs nor systemd"));
        }
    };
    settings.drivers.push(Configured { component: Component::Docker, driver, source });
}
