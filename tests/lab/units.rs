//! What the move to another cgroup driver asks of systemd: states, stops, starts, and a start that comes by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Builder;
use trimtab::adapters::systemd::Systemd;
use trimtab::ports::services::{Activity, ServiceState, Services};
use trimtab::ports::units::{UnitChange, Units};
use trimtab_domain::cpuset::CpuSet;

use crate::agent::LIMIT;
use crate::cluster::wait::until;
use crate::scenario::system;

const UNIT: &str = "trimtab-lab.service";
const ABSENT: &str = "trimtab-lab-absent.service";
const FILE: &str = "/run/systemd/system/trimtab-lab.service";
const TEXT: &str = "[Service]\nExecStart=/usr/bin/busybox sleep 2147483647\n";
/// When the start comes by itself; one that is to be taken back comes much later.
const LATER: Duration = Duration::from_secs(1);
const MUCH_LATER: Duration = Duration::from_secs(600);

/// A root with systemd's own socket and no bus, as on nodes of the smallest images.
const WITHOUT_BUS: &str = "/run/lab/without-bus";

/// Over the system bus and over systemd's own socket, with a unit of its own.
pub(crate) fn run() {
    fs::write(FILE, TEXT).unwrap();
    system("systemctl", &["daemon-reload"]);
    let run = Path::new(WITHOUT_BUS).join("run");
    fs::create_dir_all(&run).unwrap();
    symlink("/run/systemd", run.join("systemd")).unwrap();
    for root in ["/", WITHOUT_BUS] {
        started_and_stopped(Path::new(root));
        pinned(Path::new(root));
    }
    fs::remove_dir_all(WITHOUT_BUS).unwrap();
    fs::remove_file(FILE).unwrap();
    system("systemctl", &["daemon-reload"]);
}

/// Properties reach the unit's cgroup.
fn pinned(root: &Path) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let systemd = Systemd::new(root);
    runtime.block_on(systemd.start(UNIT)).unwrap();
    let file = format!("/sys/fs/cgroup/system.slice/{UNIT}/cpuset.cpus");
    for cpus in ["1", "0-1"] {
        let change = UnitChange { cpus: Some(CpuSet::parse(cpus).unwrap()), ..UnitChange::default() };
        runtime.block_on(systemd.set(UNIT, &change)).unwrap();
        until("the unit has its CPUs", LIMIT, || match fs::read_to_string(&file) {
            Ok(text) if text.trim() == cpus => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    runtime.block_on(systemd.stop(UNIT)).unwrap();
    until("the unit has stopped", LIMIT, || match runtime.block_on(systemd.state(UNIT)) {
        Ok(ServiceState { activity: Activity::Inactive, .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn started_and_stopped(root: &Path) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let systemd = Systemd::new(root);
    let state = |unit| runtime.block_on(systemd.state(unit));
    let becomes = |wanted: Activity| {
        until(&format!("the unit is {wanted:?}"), LIMIT, || match state(UNIT) {
            Ok(ServiceState { activity, .. }) if activity == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    assert_eq!(state(ABSENT).unwrap().activity, Activity::Absent);
    assert_eq!(state(UNIT).unwrap().activity, Activity::Inactive);
    runtime.block_on(systemd.start(UNIT)).unwrap();
    becomes(Activity::Active);
    assert!(state(UNIT).unwrap().active_since_us > 0);

    runtime.block_on(systemd.stop(UNIT)).unwrap();
    becomes(Activity::Inactive);
    runtime.block_on(systemd.start_later(UNIT, LATER)).unwrap();
    becomes(Activity::Active);

    // A timer that was taken back starts nothing, and one may be set again and again.
    for _ in 0..2 {
        runtime.block_on(systemd.start_later(UNIT, MUCH_LATER)).unwrap();
    }
    runtime.block_on(systemd.forget_start(UNIT)).unwrap();
    runtime.block_on(systemd.forget_start(UNIT)).unwrap();
    assert_eq!(state("trimtab-lab.timer").unwrap().activity, Activity::Absent);
    runtime.block_on(systemd.stop(UNIT)).unwrap();
    becomes(Activity::Inactive);
}
