//! The kubelet's effective configuration from its files and flags.

use std::sync::Arc;

use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::ports::HostFiles;
use trimtab::ports::kubelet::{KubeletSettings, KubeletSource};
use trimtab_domain::spec::cgroup::CgroupDriver::{Cgroupfs, Systemd};

use super::process;
use crate::support::fake_host::FakeHost;

const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const DROP_IN: &str = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";

fn settings(host: &FakeHost) -> KubeletSettings {
    let host: Arc<dyn HostFiles> = Arc::new(host.clone());
    KubeletFiles::new(Arc::clone(&host), Arc::new(ProcessTable::new(host))).settings()
}

fn config(fields: &str) -> String {
    format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{fields}")
}

/// kubeadm's unit with its drop-in.
fn kubeadm(host: &FakeHost) {
    host.file("/usr/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet\n");
    host.file(
        DROP_IN,
        "[Service]\nEnvironment=\"KUBELET_KUBECONFIG_ARGS=--kubeconfig=/etc/kubernetes/kubelet.conf\"
Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n",
    );
}

#[test]
fn no_kubelet_is_no_kubelet() {
    let found = settings(&FakeHost::new());
    assert!(!found.present && found.driver.is_none() && found.problems.is_empty());
}

#[test]
fn flags_win_over_drop_ins_and_drop_ins_over_the_file() {
    let host = FakeHost::new();
    let arguments = ["/usr/bin/kubelet", "--config", CONFIG, "--config-dir=/etc/kubelet.d", "--cgroup-root=/kubelet"];
    process(&host, 7, "kubelet", &arguments);
    host.file(
        CONFIG,
        config("cgroupDriver: cgroupfs\ncpuManagerPolicy: static\nkubeReserved: {cpu: 1, memory: 1Gi}\n"),
    );
    host.file("/etc/kubelet.d/20-b/x.conf", config("cgroupDriver: systemd\nkubeReserved: {cpu: 500m}\n"));
    host.file("/etc/kubelet.d/10-a.conf", config("cgroupDriver: cgroupfs\ncpuManagerPolicy: null\n"));
    host.file("/etc/kubelet.d/30.yaml", config("cgroupDriver: cgroupfs\n"));
    let found = settings(&host);
    assert_eq!(found.problems, [""; 0]);
    let driver = found.driver.unwrap();
    assert_eq!((driver.driver, driver.source.as_str()), (Systemd, "/etc/kubelet.d/20-b/x.conf"));
    assert_eq!(found.managers.cpu_manager_policy, "", "null brings the default back");
    let reserved: Vec<_> = found.managers.kube_reserved.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(reserved, ["cpu=500m", "memory=1Gi"], "maps are merged by key");
    assert_eq!(found.cgroup_root, "/kubelet");
    assert_eq!(
        found.sources,
        [CONFIG, "/etc/kubelet.d/10-a.conf", "/etc/kubelet.d/20-b/x.conf", "command line of the running kubelet"]
    );
    let others: Vec<_> = found.other_drivers.iter().map(|other| (other.driver, other.source.as_str())).collect();
    assert_eq!(others, [(Cgroupfs, "/etc/kubelet.d/10-a.conf"), (Cgroupfs, CONFIG)]);
}

#[test]
fn a_stopped_kubelet_is_predicted_from_its_unit() {
    let host = FakeHost::new();
    kubeadm(&host);
    host.file(CONFIG, config("cgroupDriver: systemd\n"));
    host.file(
        "/var/lib/kubelet/kubeadm-flags.env",
        "KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.1 --cgroup-driver=systemd\"\n",
    );
    host.file("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=--cgroup-driver=cgroupfs --cpu-manager-policy=static\n");
    let found = settings(&host);
    assert!(found.present && !found.running);
    // systemd takes the value up to the end of the line.
    assert_eq!(found.managers.cpu_manager_policy, "static");
    let driver = found.driver.unwrap();
    assert_eq!((driver.driver, driver.source), (Cgroupfs, format!("{DROP_IN} (next start)")));
    let others: Vec<_> = found.other_drivers.iter().map(|other| (other.driver, other.source.as_str())).collect();
    assert_eq!(
        others,
        [(Systemd, CONFIG), (Cgroupfs, "/etc/default/kubelet"), (Systemd, "/var/lib/kubelet/kubeadm-flags.env")]
    );
}

#[test]
fn a_drop_in_of_a_stronger_directory_hides_its_namesake() {
    let host = FakeHost::new();
    kubeadm(&host);
    host.file(
        "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        "[Service]\nExecStart=\nExecStart=-/opt/kubelet --cgroup-driver systemd\n",
    );
    let driver = settings(&host).driver.unwrap();
    assert_eq!(driver.driver, Systemd);
    assert!(driver.source.starts_with("/etc/systemd/system/"), "{}", driver.source);
}

#[test]
fn without_any_setting_the_default_is_named() {
    let host = FakeHost::new();
    process(&host, 7, "kubelet", &["/usr/bin/kubelet"]);
    let driver = settings(&host).driver.unwrap();
    assert_eq!((driver.driver, driver.source.as_str()), (Cgroupfs, "default of the kubelet"));
}

#[test]
fn a_missing_or_bad_file_is_told() {
    for (text, part) in [
        (None, "does not exist"),
        (Some("a: b: c\n".to_owned()), "is no YAML"),
        (Some(config("cgroupDriver: [systemd]\n")), "neither cgroupfs nor systemd"),
        (Some(config("reservedMemory: [{limits: {memory: 1Gi}}]\n")), "without a NUMA node"),
    ] {
        let host = FakeHost::new();
        process(&host, 7, "kubelet", &["kubelet", "--config=/etc/k.yaml"]);
        if let Some(text) = &text {
            host.file("/etc/k.yaml", text.as_str());
        }
        let problems = settings(&host).problems;
        assert!(problems.iter().any(|problem| problem.contains(part)), "{text:?}: {problems:?}");
    }
}

#[test]
fn state_files_are_below_the_root_directory_of_the_kubelet() {
    let host = FakeHost::new();
    process(&host, 7, "kubelet", &["kubelet", "--root-dir=/data/kubelet"]);
    host.file(
        "/data/kubelet/memory_manager_state",
        r#"{"policyName":"Static","machineState":{},"entries":{"u":{"c":[{"numaAffinity":[1,0],"type":"memory","size":4096}]}},"checksum":1}"#,
    );
    host.file(
        "/data/kubelet/cpu_manager_state",
        r#"{"policyName":"static","defaultCpuSet":"0","entries":{"0a1b":"2-3"},"checksum":1}"#,
    );
    let files: Arc<dyn HostFiles> = Arc::new(host);
    let state = KubeletFiles::new(Arc::clone(&files), Arc::new(ProcessTable::new(files))).state();
    assert_eq!((state.cpu_policy.as_str(), state.memory_policy.as_str()), ("static", "Static"));
    assert!(state.cpus.is_empty(), "entries by container id tell no name");
    let block = &state.memory.values().next().unwrap()[0];
    assert_eq!((block.nodes.as_slice(), block.memory_type.as_str(), block.size_bytes), (&[0, 1][..], "memory", 4096));
}
