//! The program beside a real firewalld and beside what nftables.service runs, in namespaces of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};

use crate::support::namespace::{cannot_run, in_pid_namespace};
use crate::support::node::{Node, nat, run};

/// What Debian splits firewalld into, but for its bindings to D-Bus.
const PACKAGES: [&str; 3] = ["firewalld", "python3-firewall", "python3-nftables"];
const PYTHON: &str = "/usr/bin/python3";
/// A bus for whoever is in these namespaces.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_type="method_return"/><allow send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_type="method_return"/>
<allow receive_type="error"/></policy></busconfig>
"#;
/// A rule of nobody, to see by that a flush took everything with it.
const MARK: [&str; 5] = ["POSTROUTING", "-o", "nowhere", "-j", "ACCEPT"];

/// Its unpacked packages.
struct Firewalld(Vec<PathBuf>);

impl Firewalld {
    /// As `make tools` fetched them.
    fn fetch() -> Result<Self, String> {
        let bindings = Command::new(PYTHON).args(["-c", "import dbus, gi"]).output();
        if !bindings.is_ok_and(|output| output.status.success()) {
            return Err("python3-dbus and python3-gi are not installed".into());
        }
        if Command::new("dbus-daemon").arg("--version").output().is_err() {
            return Err("dbus-daemon is not installed".into());
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/packages.sh");
        let output = Command::new(script).arg("bookworm").args(PACKAGES).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(Self(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()))
    }

    fn command(&self, program: &str) -> Command {
        let modules: Vec<_> =
            self.0.iter().map(|package| package.join("usr/lib/python3/dist-packages").display().to_string()).collect();
        let mut command = Command::new(PYTHON);
        command.arg(self.0[0].join(program)).env("PYTHONPATH", modules.join(":")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts it with rules in iptables or nftables.
    fn start(&self, backend: &str, folder: &Path) -> Child {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("firewalld.conf"), format!("DefaultZone=public\nFirewallBackend={backend}\n")).unwrap();
        let mut command = self.command("usr/sbin/firewalld");
        command.args(["--nofork", "--nopid", "--system-config"]).arg(folder);
        command.arg("--default-config").arg(self.0[0].join("usr/lib/firewalld"));
        command.spawn().unwrap()
    }

    fn answers(&self, question: &str) -> bool {
        self.command("usr/bin/firewall-cmd").arg(question).status().unwrap().success()
    }
}

/// A bus of these namespaces; nothing outside is spoken to.
fn start_bus(folder: &Path) -> Child {
    fs::create_dir_all("/run/dbus").unwrap();
    fs::write(folder.join("bus.conf"), BUS).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.arg("--config-file").arg(folder.join("bus.conf")).args(["--nofork", "--nopidfile"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn ours() -> Vec<String> {
    nat().lines().filter(|line| line.contains("IP-MASQ-AGENT")).map(str::to_owned).collect()
}

fn set_mark() {
    run("iptables", &[&["-t", "nat", "-A"], &MARK[..]].concat());
}

fn is_marked() -> bool {
    nat().contains("-o nowhere -j ACCEPT")
}

fn write_profile(node: &Node, ip_masq: &str) {
    node.write_profile(&format!(
        "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: test}}\nspec:\n  ipMasq: {{{ip_masq}}}\n"
    ));
}

#[test]
fn a_real_firewalld_starts_and_reloads_and_the_rules_are_healed() {
    in_pid_namespace("firewalld::a_real_firewalld_starts_and_reloads_and_the_rules_are_healed", || {
        let firewalld = match Firewalld::fetch() {
            Ok(firewalld) => firewalld,
            Err(why) => return cannot_run(&format!("no firewalld can be had: {why}")),
        };
        let none: Option<&str> = None;
        mount(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let Some(node) = Node::new() else { return };
        let mut bus = start_bus(&node.path(""));
        for backend in ["iptables", "nftables"] {
            write_profile(&node, "backend: iptables-nft, enableIPv6: true");
            let agent = node.start_ready();
            let held = ours();
            assert!(held.len() >= 8, "{held:?}");
            set_mark();
            assert_eq!(agent.terminate(), Some(0));
            let mut agent = node.start_ready();
            let mut running = firewalld.start(backend, &node.path("firewalld"));
            agent.until("firewalld runs", || firewalld.answers("--state"));
            // Wherever its own rules are, it begins with the tables of iptables empty.
            agent.until("the mark is gone", || !is_marked());
            agent.until("healed after its start", || ours() == held);
            assert_eq!(agent.terminate(), Some(0));
            // A minute in which much was healed is no fight of the next agent.
            let mut agent = node.start_ready();
            assert!(firewalld.answers("--reload"), "{backend}");
            agent.until("healed after its reload", || ours() == held);
            assert_eq!(agent.terminate(), Some(0));
            running.kill().unwrap();
            running.wait().unwrap();
            run("iptables", &["-t", "nat", "-F", "POSTROUTING"]);
        }
        bus.kill().unwrap();
        bus.wait().unwrap();
    });
}

#[test]
fn what_nftables_service_runs_is_healed_on_either_back_end() {
    in_pid_namespace("firewalld::what_nftables_service_runs_is_healed_on_either_back_end", || {
        let Some(node) = Node::new() else { return };
        // Debian's /etc/nftables.conf, as `nft -f` gets it from the unit's ExecStart and ExecReload.
        let rules = "flush ruleset\n\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter;\n\t}\n\
                     \tchain forward {\n\t\ttype filter hook forward priority filter;\n\t}\n\
                     \tchain output {\n\t\ttype filter hook output priority filter;\n\t}\n}\n";
        fs::write(node.path("nftables.conf"), rules).unwrap();
        let table = || run("nft", &["-s", "list", "ruleset"]);
        for backend in ["iptables-nft", "nftables"] {
            write_profile(&node, &format!("backend: {backend}, enableIPv6: true"));
            let mut agent = node.start_ready();
            let shown = || if backend == "nftables" { ruleset(&table()) } else { ours() };
            let held = shown();
            assert!(held.len() >= 8, "{backend}: {held:?}");
            run("nft", &["-f", node.path("nftables.conf").to_str().unwrap()]);
            agent.until("healed after the service's start", || shown() == held);
            // ExecStop.
            run("nft", &["flush", "ruleset"]);
            agent.until("healed after the service's end", || shown() == held);
            assert_eq!(agent.terminate(), Some(0));
            assert_eq!(node.once("rollback", &[]).0, Some(0));
        }
    });
}

/// The lines of our own tables.
fn ruleset(text: &str) -> Vec<String> {
    let tables = text.split("\ntable ").map(|table| table.trim_start_matches("table "));
    let ours = tables.filter(|table| table.contains("trimtab-masq"));
    ours.flat_map(|table| table.lines().map(|line| line.trim().to_owned())).collect()
}
