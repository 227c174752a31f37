use super::*;

#[test]
fn the_switch_is_set_and_all_else_stays() {
    let texts = [
        "version = 2\n# ours\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"x\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  SystemdCgroup = false # why\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'x'\n",
    ];
    for text in texts {
        let edited = set_containerd_driver(Some(text), &["runc"], CgroupDriver::Systemd).expect(text);
        for line in text.lines().filter(|line| !line.contains("SystemdCgroup")) {
            assert!(edited.contains(line), "{line:?} is lost in {edited}");
        }
        assert!(edited.contains("SystemdCgroup = true"), "{edited}");
        assert_eq!(edited.contains("# why"), text.contains("# why"), "{edited}");
        let again = set_containerd_driver(Some(&edited), &["runc"], CgroupDriver::Systemd).expect("edited");
        assert!(again.contains("SystemdCgroup = true"));
        let back = set_containerd_driver(Some(&edited), &["runc"], CgroupDriver::Cgroupfs).expect("edited");
        assert!(back.contains("SystemdCgroup = false"), "{back}");
    }
}

#[test]
fn a_file_that_is_missing_is_made_with_the_handler_whole() {
    let made = set_containerd_driver(None, &["runc"], CgroupDriver::Systemd).expect("made");
    let root = toml::parse(&made).expect("TOML");
    let path = ["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes", "runc"];
    let runtime = toml::at(&root, &path).expect("the handler");
    assert_eq!(runtime, &serde_json::json!({ "runtime_type": RUNC, "options": { "SystemdCgroup": true } }), "{made}");
}

#[test]
fn inline_tables_and_dotted_keys_are_edited_in_their_form() {
    let texts = [
        "version = 2\nplugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc = { runtime_type = \"x\", options = { SystemdCgroup = false } }\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes.runc.runtime_type = \"x\"\nruntimes.runc.options.SystemdCgroup = false\n",
        "[plugins.cri.containerd.runtimes.runc]\nruntime_type = \"x\"\n",
    ];
    for text in texts {
        let edited = set_containerd_driver(Some(text), &["runc"], CgroupDriver::Systemd).expect(text);
        assert!(edited.contains("SystemdCgroup = true"), "{edited}");
    }
}

#[test]
fn what_has_another_form_is_refused() {
    for text in
        ["version = ", "version = 2\nplugins = 1\n", "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = []\n"]
    {
        assert!(set_containerd_driver(Some(text), &["runc"], CgroupDriver::Systemd).is_err(), "{text}");
    }
}

#[test]
fn the_drop_in_of_cri_o_says_all_that_the_driver_needs() {
    let root = toml::parse(&crio_drop_in(CgroupDriver::Cgroupfs)).expect("TOML");
    let runtime = toml::at(&root, &["crio", "runtime"]).expect("the table");
    assert_eq!(runtime, &serde_json::json!({ "cgroup_manager": "cgroupfs", "conmon_cgroup": "pod" }));
}
