//! Detection of hierarchies and drivers, through the real adapters on files in memory.

mod kubelet;
mod runtimes;
mod topology;

use std::sync::Arc;

use trimtab::adapters::cgroup_fs::CgroupFs;
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::runtime_config::RuntimeFiles;
use trimtab::ports::HostFiles;
use trimtab::ports::names::Processes;
use trimtab::reconcile::Subsystem;
use trimtab::reconcile::report::ObjectReport;
use trimtab::subsystems::cgroup::Cgroup;
use trimtab_domain::plan::Severity;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::spec::{CgroupSpec, NodeSpec};

use crate::support::fake_host::FakeHost;

const V2: &str = "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const HYBRID: &str = "30 1 0:1 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
31 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
32 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

fn cgroup(host: &FakeHost) -> Cgroup {
    let host: Arc<dyn HostFiles> = Arc::new(host.clone());
    let processes: Arc<dyn Processes> = Arc::new(ProcessTable::new(Arc::clone(&host)));
    let tree = Arc::new(CgroupFs::new(Arc::clone(&host), "/").unwrap());
    let kubelet = Arc::new(KubeletFiles::new(Arc::clone(&host), Arc::clone(&processes)));
    Cgroup::new(tree, kubelet, Arc::new(RuntimeFiles::new(host, processes)))
}

fn wish(driver: Option<CgroupDriver>) -> NodeSpec {
    NodeSpec { cgroup: CgroupSpec { driver, migration: None }, ..NodeSpec::default() }
}

/// A process of the host.
fn process(host: &FakeHost, pid: u32, name: &str, arguments: &[&str]) {
    host.file(format!("/proc/{pid}/comm"), format!("{name}\n"));
    host.file(format!("/proc/{pid}/cmdline"), arguments.iter().map(|text| format!("{text}\0")).collect::<String>());
}

struct Shown {
    codes: Vec<(Severity, &'static str)>,
    objects: Vec<ObjectReport>,
    messages: String,
}

async fn look(host: &FakeHost, driver: Option<CgroupDriver>) -> Shown {
    let (subsystem, spec) = (cgroup(host), wish(driver));
    let desired = Cgroup::desired(&spec);
    let observed = subsystem.observe(desired).await.unwrap();
    let plan = Cgroup::plan(desired, &observed);
    assert!(plan.is_empty(), "there is nothing to write");
    assert_eq!(host.take_attempts(), 0);
    Shown {
        codes: plan.findings.iter().map(|finding| (finding.severity, finding.code)).collect(),
        messages: plan.findings.iter().map(|finding| format!("{}\n{}\n", finding.message, finding.remedy)).collect(),
        objects: Cgroup::objects(desired, &observed),
    }
}

impl Shown {
    fn object(&self, name: &str) -> Option<&ObjectReport> {
        self.objects.iter().find(|object| object.object == name)
    }

    fn observed(&self, name: &str) -> Option<&str> {
        self.object(name)?.observed.as_deref()
    }

    fn source(&self, name: &str) -> Option<&str> {
        self.object(name)?.attributes.iter().find(|(name, _)| *name == "source").map(|(_, value)| value.as_str())
    }
}

#[tokio::test]
async fn a_node_that_agrees_has_no_findings() {
    let host = FakeHost::new();
    host.file("/proc/1/mountinfo", V2);
    host.directory("/sys/fs/cgroup/kubepods.slice/kubepods-podaaaa.slice");
    host.file("/sys/fs/cgroup/kubepods.slice/cgroup.events", "populated 1\nfrozen 0\n");
    host.file("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncgroupDriver: systemd\n");
    host.file(
        "/etc/containerd/config.toml",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n",
    );
    let shown = look(&host, Some(CgroupDriver::Systemd)).await;
    assert_eq!(shown.codes, []);
    assert_eq!(shown.observed("cgroup mode"), Some("v2"));
    assert_eq!(shown.observed("cgroup driver"), Some("systemd"));
    assert_eq!(shown.observed("tree kubepods.slice"), Some("1 pods"));
    assert_eq!(shown.source("kubelet cgroup driver"), Some("/var/lib/kubelet/config.yaml"));
    assert_eq!(shown.source("containerd handler runc cgroup driver"), Some("/etc/containerd/config.toml"));
}

#[tokio::test]
async fn disagreements_come_with_the_way_out() {
    let host = FakeHost::new();
    host.file("/proc/1/mountinfo", HYBRID);
    host.directory("/sys/fs/cgroup/cpu/kubepods.slice/kubepods-podaaaa.slice");
    let id = "ab".repeat(32);
    host.file(format!("/sys/fs/cgroup/cpu/kubepods/podbbbb/{id}/cgroup.procs"), "4711\n");
    host.directory(format!("/sys/fs/cgroup/cpu/system.slice/containerd.service/x.slice:cri-containerd:{id}"));
    process(&host, 10, "kubelet", &["/usr/bin/kubelet", "--cgroup-driver=systemd"]);
    process(&host, 11, "containerd", &["/usr/bin/containerd"]);
    let shown = look(&host, None).await;
    assert_eq!(
        shown.codes,
        [
            (Severity::Info, "cgroup-hybrid"),
            (Severity::Info, "cgroup-two-trees"),
            (Severity::Error, "cgroup-literal-systemd-path"),
            (Severity::Warning, "cgroup-driver-mismatch"),
        ]
    );
    assert_eq!(shown.observed("cgroup driver"), Some("cgroupfs"), "the tree with a process in it");
    assert_eq!(shown.source("containerd handler runc cgroup driver"), Some("default of containerd"));
    for part in ["drain the node", "uncordon", "rmdir", "command line of the running kubelet"] {
        assert!(shown.messages.contains(part), "{part} in {}", shown.messages);
    }
}

#[tokio::test]
async fn a_node_without_anything_says_so() {
    let host = FakeHost::new();
    let shown = look(&host, None).await;
    assert_eq!(shown.codes, [(Severity::Error, "cgroup-not-mounted")]);
    assert_eq!((shown.observed("cgroup mode"), shown.observed("cgroup driver")), (None, None));
}

#[tokio::test]
async fn files_that_cannot_be_understood_are_findings() {
    for (path, text) in [
        ("/var/lib/kubelet/config.yaml", "kind: [\n"),
        ("/var/lib/kubelet/config.yaml", "- a list\n"),
        ("/var/lib/kubelet/config.yaml", "kind: Pod\n"),
        ("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncgroupDriver: fs\n"),
        ("/etc/containerd/config.toml", "version = \n"),
        ("/etc/containerd/config.toml", "version = 9\n"),
        ("/etc/containerd/config.toml", "version = 2\nimports = ['/etc/none.toml']\n"),
        ("/etc/crio/crio.conf", "[crio.runtime]\ncgroup_manager = \"both\"\n"),
        ("/etc/crio/crio.conf", "[crio.runtime\n"),
        ("/etc/docker/daemon.json", "{\"exec-opts\": "),
        ("/etc/docker/daemon.json", "{\"exec-opts\": [\"native.cgroupdriver=x\"]}"),
    ] {
        let host = FakeHost::new();
        host.file("/proc/1/mountinfo", V2).file(path, text);
        let shown = look(&host, None).await;
        assert_eq!(shown.codes, [(Severity::Warning, "cgroup-configuration-unclear")], "{path} {text:?}");
    }
    let host = FakeHost::new();
    host.file("/proc/1/mountinfo", "garbage\n");
    let error = cgroup(&host).observe(&CgroupSpec::default()).await.unwrap_err().chain();
    assert!(error.contains("/proc/1/mountinfo") && error.contains("no separator"), "{error}");
}
