//! The drivers in the configuration of the runtimes.

use std::sync::Arc;

use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::runtime_config::RuntimeFiles;
use trimtab::ports::HostFiles;
use trimtab::ports::kubelet::{RuntimeSettings, RuntimeSource};

use super::process;
use crate::support::fake_host::FakeHost;

const CONTAINERD: &str = "/etc/containerd/config.toml";

fn settings(host: &FakeHost) -> RuntimeSettings {
    let host: Arc<dyn HostFiles> = Arc::new(host.clone());
    RuntimeFiles::new(Arc::clone(&host), Arc::new(ProcessTable::new(host))).drivers()
}

fn shown(found: &RuntimeSettings) -> Vec<String> {
    let drivers = found.drivers.iter();
    drivers.map(|c| format!("{}: {} ({})", c.component.describe(), c.driver, c.source)).collect()
}

fn handler(plugin: &str, name: &str, switch: &str) -> String {
    format!("[plugins.\"{plugin}\".containerd.runtimes.{name}.options]\n  SystemdCgroup = {switch}\n")
}

#[test]
fn every_version_of_a_containerd_file_has_its_own_path() {
    let rows = [
        ("version 1", handler("cri", "runc", "true"), "systemd"),
        ("version 2", "version = 2\n".to_owned() + &handler("io.containerd.grpc.v1.cri", "runc", "true"), "systemd"),
        ("version 3", "version = 3\n".to_owned() + &handler("io.containerd.cri.v1.runtime", "runc", "true"), "systemd"),
        ("version 4", "version = 4\n".to_owned() + &handler("io.containerd.cri.v1.runtime", "runc", "true"), "systemd"),
        ("off", "version = 2\n".to_owned() + &handler("io.containerd.grpc.v1.cri", "runc", "false"), "cgroupfs"),
    ];
    for (name, text, driver) in rows {
        let host = FakeHost::new();
        host.file(CONTAINERD, text);
        let found = settings(&host);
        assert_eq!(shown(&found), [format!("containerd handler runc: {driver} ({CONTAINERD})")], "{name}");
        assert_eq!(found.problems, [""; 0], "{name}");
    }
}

#[test]
fn a_path_of_another_version_is_ignored_and_told() {
    let host = FakeHost::new();
    host.file(CONTAINERD, "version = 3\n".to_owned() + &handler("io.containerd.grpc.v1.cri", "runc", "true"));
    let found = settings(&host);
    assert_eq!(shown(&found), ["containerd handler runc: cgroupfs (default of containerd)"]);
    assert!(found.problems[0].contains("is ignored in a file of version 3"), "{:?}", found.problems);
}

#[test]
fn all_handlers_of_runc_are_told_and_others_left_out() {
    let host = FakeHost::new();
    let text = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'nvidia'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
    host.file(CONTAINERD, text);
    let found = settings(&host);
    assert_eq!(
        shown(&found),
        [
            "containerd handler nvidia: cgroupfs (default of containerd)".to_owned(),
            format!("containerd handler runc: systemd ({CONTAINERD})"),
        ]
    );
    let default = trimtab_domain::cgroup::Component::Containerd { handler: "nvidia".into(), default: true };
    assert_eq!(found.drivers[0].component, default);
}

#[test]
fn imports_are_merged_as_the_version_says() {
    let v3 = "io.containerd.cri.v1.runtime";
    let v2 = "io.containerd.grpc.v1.cri";
    let kata = "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'runc'\n";
    // Since 2.0 an import adds to the table, before it replaced it.
    let host = FakeHost::new();
    host.file(CONTAINERD, "version = 3\nimports = ['conf.d/*.toml']\n".to_owned() + &handler(v3, "runc", "false"));
    host.file("/etc/containerd/conf.d/10-a.toml", "version = 3\n".to_owned() + &handler(v3, "runc", "true"));
    host.file("/etc/containerd/conf.d/20-b.toml", "version = 2\n".to_owned() + &handler(v2, "other", "true"));
    host.file("/etc/containerd/conf.d/30-c.conf", "version = 3\n".to_owned() + &handler(v3, "runc", "false"));
    let found = settings(&host);
    assert_eq!(
        shown(&found),
        [
            "containerd handler other: systemd (/etc/containerd/conf.d/20-b.toml)",
            "containerd handler runc: systemd (/etc/containerd/conf.d/10-a.toml)",
        ]
    );
    assert_eq!(found.problems, [""; 0]);

    let host = FakeHost::new();
    host.file(
        CONTAINERD,
        "version = 2\nimports = ['/etc/containerd/x.toml']\n".to_owned() + &handler(v2, "runc", "true"),
    );
    host.file("/etc/containerd/x.toml", "version = 2\n".to_owned() + kata);
    let found = settings(&host);
    assert_eq!(shown(&found), ["containerd handler runc: cgroupfs (default of containerd)"], "the table was replaced");
    assert!(found.problems[0].contains("1.x"), "{:?}", found.problems);
}

#[test]
fn imports_that_cannot_be_are_told_and_rings_end() {
    let host = FakeHost::new();
    host.file(CONTAINERD, "version = 2\nimports = ['a.toml', 'gone.toml']\n");
    host.file("/etc/containerd/a.toml", format!("version = 3\nimports = ['{CONTAINERD}']\n"));
    let problems = settings(&host).problems.join("\n");
    assert!(problems.contains("gone.toml is imported and does not exist"), "{problems}");
    assert!(problems.contains("a.toml has version 3 although"), "{problems}");
}

#[test]
fn the_running_daemon_says_where_its_file_is() {
    let host = FakeHost::new();
    process(&host, 9, "containerd", &["containerd", "-c", "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"]);
    host.file(
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "version = 3\n".to_owned() + &handler("io.containerd.cri.v1.runtime", "runc", "true"),
    );
    host.file(CONTAINERD, "version = 2\n");
    assert_eq!(
        shown(&settings(&host)),
        ["containerd handler runc: systemd (/var/lib/rancher/k3s/agent/etc/containerd/config.toml)"]
    );
}

#[test]
fn cri_o_reads_its_drop_ins_by_name() {
    let host = FakeHost::new();
    host.file("/etc/crio/crio.conf", "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\"\n");
    assert_eq!(shown(&settings(&host)), ["CRI-O: cgroupfs (/etc/crio/crio.conf)"]);
    assert_eq!(settings(&host).problems, [""; 0]);
    host.file("/etc/crio/crio.conf.d/10-x.conf", "[crio.runtime]\ncgroup_manager = \"systemd\"\n");
    host.file("/etc/crio/crio.conf.d/05-y.conf", "[crio.runtime]\nconmon_cgroup = \"\"\n");
    assert_eq!(shown(&settings(&host)), ["CRI-O: systemd (/etc/crio/crio.conf.d/10-x.conf)"]);
    // It reads every file of the directory and of those in it, in the order of a walk.
    host.file("/etc/crio/crio.conf.d/20-z/a", "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n");
    assert_eq!(shown(&settings(&host)), ["CRI-O: cgroupfs (/etc/crio/crio.conf.d/20-z/a)"]);
    host.file("/etc/crio/crio.conf.d/20-z.backup", "[crio.runtime]\ncgroup_manager = \"systemd\"\n");
    assert_eq!(shown(&settings(&host)), ["CRI-O: systemd (/etc/crio/crio.conf.d/20-z.backup)"]);
    process(&host, 9, "crio", &["crio", "--cgroup-manager=cgroupfs"]);
    let found = settings(&host);
    assert_eq!(shown(&found), ["CRI-O: cgroupfs (command line of the running CRI-O)"]);
    assert!(found.problems[0].contains("conmon_cgroup"), "{:?}", found.problems);
}

#[test]
fn docker_counts_only_where_kubernetes_uses_it() {
    let host = FakeHost::new();
    host.file("/etc/docker/daemon.json", r#"{"exec-opts": ["native.cgroupdriver=systemd"]}"#);
    assert_eq!(shown(&settings(&host)), ["docker: systemd (/etc/docker/daemon.json)"]);
    host.file(CONTAINERD, "version = 2\n");
    assert_eq!(shown(&settings(&host)), ["containerd handler runc: cgroupfs (default of containerd)"]);
    process(&host, 9, "cri-dockerd", &["cri-dockerd"]);
    assert_eq!(shown(&settings(&host)).len(), 2);
}

#[test]
fn handlers_of_crio_have_the_type_that_the_last_file_says() {
    let host = FakeHost::new();
    host.file("/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = 'crun'\n[crio.runtime.runtimes.crun]\n");
    let kata = "[crio.runtime.runtimes.kata]\nruntime_type = 'oci'\n";
    host.file("/etc/crio/crio.conf.d/10-kata.conf", kata);
    host.file("/etc/crio/crio.conf.d/20-kata.conf", kata.replace("oci", "vm"));
    let types: Vec<_> = settings(&host).handlers.0.into_iter().collect();
    let expected = [("", "oci"), ("crun", "oci"), ("kata", "vm")];
    assert_eq!(types, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
}
