//! The cgroup driver as the running runtime tells it, and what the subsystem `cgroup` makes of that.

use std::sync::Arc;

use trimtab::adapters::cgroup_fs::CgroupFs;
use trimtab::ports::HostFiles;
use trimtab::ports::kubelet::{RuntimeSettings, RuntimeSource};
use trimtab::ports::runtime::ContainerRuntime;
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::cgroup::Cgroup;
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::spec::CgroupSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_proto::runtime::v1 as cri;

use super::{Host, Kubelet};
use crate::support::fake_host::FakeHost;

/// Status of containerd 1.7.
const CONFIG: &str = r#"{"containerd": {"defaultRuntimeName": "runc", "runtimes": {
    "runc": {"runtimeType": "io.containerd.runc.v2", "options": {"SystemdCgroup": true}},
    "kata": {"runtimeType": "io.containerd.kata.v2", "options": null}}}}"#;

fn told(drivers: &[Configured]) -> Vec<(String, CgroupDriver)> {
    drivers.iter().map(|told| (told.component.describe(), told.driver)).collect()
}

#[tokio::test]
async fn the_driver_is_asked_and_for_old_runtimes_read_from_what_they_show() {
    let runc = "containerd handler runc".to_owned();
    let rows = [
        (
            "containerd 2",
            "containerd",
            Some(cri::CgroupDriver::Cgroupfs),
            None,
            vec![(runc.clone(), CgroupDriver::Cgroupfs)],
        ),
        ("CRI-O", "cri-o", Some(cri::CgroupDriver::Systemd), None, vec![("CRI-O".into(), CgroupDriver::Systemd)]),
        ("containerd 1.7", "containerd", None, Some(CONFIG), vec![(runc, CgroupDriver::Systemd)]),
        ("too old", "containerd", None, None, vec![]),
        ("shows something else", "cri-o", None, Some("{\"sandboxImage\": 1}"), vec![]),
    ];
    for (name, runtime, driver, config, expected) in rows {
        let host = Host::new();
        {
            let mut table = host.double.table();
            table.name = runtime.into();
            table.driver = driver;
            table.config = config.map(Into::into);
        }
        let drivers = host.runtime.cgroup_drivers().await.unwrap();
        assert_eq!(told(&drivers), expected, "{name}");
        assert!(drivers.iter().all(|told| told.source.contains("running")), "{name}: {drivers:?}");
    }
}

/// What the files of a runtime say.
struct Files(CgroupDriver);

impl RuntimeSource for Files {
    fn drivers(&self) -> RuntimeSettings {
        let component = Component::Containerd { handler: "runc".into(), default: true };
        let source = "/etc/containerd/config.toml".into();
        RuntimeSettings {
            drivers: vec![Configured { component, driver: self.0, source }],
            ..RuntimeSettings::default()
        }
    }
}

fn subsystem(runtime: Option<Arc<dyn ContainerRuntime>>, files: CgroupDriver) -> Cgroup {
    let host: Arc<dyn HostFiles> = Arc::new(FakeHost::new());
    let tree = Arc::new(CgroupFs::new(host, "/").unwrap());
    Cgroup::new(tree, Arc::new(Kubelet(String::new())), Arc::new(Files(files))).with_runtime(runtime)
}

#[tokio::test]
async fn the_answer_of_the_running_runtime_comes_before_its_files() {
    let host = Host::new();
    let runtime: Arc<dyn ContainerRuntime> = host.runtime.clone();
    let subsystem = subsystem(Some(runtime), CgroupDriver::Cgroupfs);
    let spec = CgroupSpec::default();
    let observed = subsystem.observe(&spec).await.unwrap();
    assert_eq!(told(&observed.runtimes.in_force), [("containerd handler runc".into(), CgroupDriver::Systemd)]);
    assert_eq!(told(&observed.runtimes.others), [("containerd handler runc".into(), CgroupDriver::Cgroupfs)]);
    let codes: Vec<_> = Cgroup::plan(&spec, &observed).findings.iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"cgroup-driver-pending"), "{codes:?}");
    let objects = Cgroup::objects(&spec, &observed);
    let in_force: Vec<_> = objects
        .iter()
        .filter(|object| object.object == "containerd handler runc cgroup driver")
        .map(|object| (object.observed.clone().unwrap(), object.attributes.contains(&("in force", "yes".into()))))
        .collect();
    assert_eq!(in_force, [("systemd".into(), true), ("cgroupfs".into(), false)]);
}

#[tokio::test]
async fn without_an_answer_the_files_are_all_that_is_known() {
    let mut host = Host::new();
    host.double.stop();
    let runtime: Arc<dyn ContainerRuntime> = host.runtime.clone();
    let spec = CgroupSpec::default();
    for runtime in [Some(runtime), None] {
        let observed = subsystem(runtime, CgroupDriver::Cgroupfs).observe(&spec).await.unwrap();
        assert_eq!(told(&observed.runtimes.in_force), [("containerd handler runc".into(), CgroupDriver::Cgroupfs)]);
        assert!(observed.runtimes.others.is_empty() && observed.problems.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_of_the_runtime_is_a_problem_that_is_told() {
    let host = Host::new();
    host.double.table().failing.insert("RuntimeConfig", tonic::Status::internal("broken"));
    let runtime: Arc<dyn ContainerRuntime> = host.runtime.clone();
    let observed = subsystem(Some(runtime), CgroupDriver::Systemd).observe(&CgroupSpec::default()).await.unwrap();
    assert_eq!(observed.runtimes.in_force.len(), 1);
    assert!(observed.problems.iter().any(|problem| problem.contains("broken")), "{:?}", observed.problems);
}
