use super::*;

/// As containerd 1.7 answers (shortened).
const CONTAINERD: &str = r#"{
  "sandboxID": "s1", "pid": 4711, "removing": false, "snapshotKey": "c1", "snapshotter": "overlayfs",
  "runtimeType": "io.containerd.runc.v2", "runtimeOptions": {"systemd_cgroup": true},
  "config": {"metadata": {"name": "main"}, "linux": {"resources": {"cpu_period": 100000, "cpu_shares": 2048}}},
  "runtimeSpec": {
    "ociVersion": "1.1.0", "process": {"oomScoreAdj": -997, "user": {"uid": 0, "gid": 0}},
    "linux": {
      "cgroupsPath": "kubepods-pod0b7c.slice:cri-containerd:c1",
      "resources": {
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 1073741824, "swap": 1073741824},
        "cpu": {"shares": 2048, "quota": 200000, "period": 100000, "cpus": "2-3"},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}, {"pageSize": "2MB", "limit": 2097152}]
      }
    }
  }
}"#;

#[test]
fn verbose_information_of_a_container_is_read() {
    let info = ObjectInfo::parse(CONTAINERD);
    assert_eq!((info.process(), info.runtime_type.as_deref()), (Some(4711), Some("io.containerd.runc.v2")));
    assert_eq!(info.cgroups_path(), "kubepods-pod0b7c.slice:cri-containerd:c1");
    let expected = ToldResources {
        cpu_shares: Some(2048),
        cpu_quota_us: Some(200_000),
        made_with_quota_us: Some(0),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(1 << 30),
        hugepage_limits: [("hugepages-2Mi".to_owned(), 2 << 20)].into(),
        cpus: "2-3".into(),
        mems: String::new(),
        oom_score_adj: Some(-997),
    };
    assert_eq!(info.resources(), Some(expected));
}

#[test]
fn the_parent_of_a_pod_is_told_by_the_request_or_by_the_sandboxs_place() {
    let rows = [
        (r#"{"config": {"linux": {"cgroup_parent": "/kubepods/burstable/podx"}}}"#, "/kubepods/burstable/podx"),
        (r#"{"runtimeSpec": {"linux": {"cgroupsPath": "kubepods-podx.slice:crio:s1"}}}"#, "kubepods-podx.slice"),
        (r#"{"runtimeSpec": {"linux": {"cgroupsPath": "/kubepods/podx/s1"}}}"#, "/kubepods/podx"),
        ("{}", ""),
        (r#"{"config": null, "runtimeSpec": {"linux": null}}"#, ""),
        ("no JSON", ""),
    ];
    for (text, parent) in rows {
        assert_eq!(ObjectInfo::parse(text).cgroup_parent(), parent, "{text}");
    }
}

#[test]
fn resources_of_a_pod_are_told_by_the_request() {
    let text = r#"{"config": {"linux": {"resources": {"cpu_shares": 3072, "cpu_quota": 300000, "cpu_period": 100000,
                   "memory_limit_in_bytes": 7}}}}"#;
    let told = ObjectInfo::parse(text).pod_resources();
    assert_eq!(told.as_ref().and_then(|told| told.cpu_shares), Some(3072));
    assert_eq!(told.and_then(|told| told.memory_limit_bytes), Some(7));
    assert_eq!(ObjectInfo::parse(r#"{"config": {"linux": {}}}"#).pod_resources(), None);
}

#[test]
fn the_configuration_in_force_tells_handlers_and_drivers() {
    let text = r#"{"containerd": {"snapshotter": "overlayfs", "defaultRuntimeName": "runc", "runtimes": {
        "runc": {"runtimeType": "io.containerd.runc.v2", "options": {"SystemdCgroup": true, "BinaryName": ""}},
        "crun": {"runtimeType": "io.containerd.runc.v2", "options": {}},
        "kata": {"runtimeType": "io.containerd.kata.v2", "options": null}}}, "cni": {}}"#;
    let info = RuntimeInfo::parse(text);
    assert_eq!(info.as_ref().and_then(RuntimeInfo::default_handler).as_deref(), Some("runc"));
    let drivers = info.as_ref().map(|info| info.drivers("x")).unwrap_or_default();
    let told: Vec<_> = drivers.iter().map(|told| (told.component.describe(), told.driver)).collect();
    let runc = "containerd handler runc".to_owned();
    let crun = "containerd handler crun".to_owned();
    assert_eq!(told, [(crun, CgroupDriver::Cgroupfs), (runc, CgroupDriver::Systemd)]);
    let types = info.map(|info| info.handler_types()).unwrap_or_default();
    assert_eq!(types.0.get("").map(String::as_str), Some("io.containerd.runc.v2"));
    assert_eq!(types.0.get("kata").map(String::as_str), Some("io.containerd.kata.v2"));
    assert_eq!(RuntimeInfo::parse(r#"{"sandboxImage": "pause"}"#), None, "CRI-O shows no handlers");
}
