//! The agent is killed at random moments of applying, changing and giving back a profile: nothing that was there
//! before is lost, no rule of others is touched, and one pass afterwards brings the node to the profile.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use trimtab_domain::masquerade::{Backend, Family, TableId};

use crate::support::namespace::{Mounts, cannot_run, in_fresh_namespaces};
use crate::support::tables::{load, print};

/// Beside the two hundred of `crash`, which kill the agent in every subsystem.
const KILLS: usize = 60;
const DEADLINE: Duration = Duration::from_secs(20);
/// Sysctls of a network namespace, with what the profiles ask for.
const SYSCTLS: [(&str, &str, &str); 3] = [
    ("net.ipv4.ip_local_port_range", "20000 60000", "30000 60999"),
    ("net.ipv4.tcp_keepalive_time", "1200", "600"),
    ("net.ipv6.conf.all.forwarding", "1", "0"),
];
/// Rules of others, and a chain that an older agent left, with its jump in the middle.
const BEFORE: &str = "*nat\n:IP-MASQ-AGENT - [0:0]\n\
    -A POSTROUTING -s 10.9.0.0/16 ! -o cni0 -j MASQUERADE\n\
    -A POSTROUTING -m comment --comment \"\\\"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination \
    traffic to our custom IP-MASQ-AGENT chain\\\"\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT\n\
    -A POSTROUTING -o lo -j ACCEPT\n\
    -A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment \"ip-masq-agent: local\" -j RETURN\nCOMMIT\n";

/// The program, with a profile and a state directory of its own.
struct Agent<'a> {
    folder: &'a Path,
}

impl Agent<'_> {
    fn profile(&self, name: &str, value: impl Fn(&(&str, &str, &str)) -> String, chain: &str, cidr: &str) {
        let sysctls: String = SYSCTLS.iter().map(|row| format!("      {}: \"{}\"\n", row.0, value(row))).collect();
        let text = format!(
            "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: {name}}}\nspec:\n  sysctls:\n    values:\n{sysctls}  \
             ipMasq:\n    nonMasqueradeCIDRs: [{cidr}]\n    enableIPv6: true\n    masqChain: {chain}\n"
        );
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn command(&self, verb: &str, profile: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
        command.arg(verb).arg("--profile").arg(self.folder.join(profile));
        command.arg("--state-dir").arg(self.folder.join("state"));
        if verb == "run" {
            command.args(["--http", "off", "--socket"]).arg(self.folder.join("socket"));
        }
        // A group of its own, so that the programs which it leaves behind are found.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, verb: &str, profile: &str) -> Child {
        self.command(verb, profile).spawn().unwrap()
    }

    fn succeed(&self, verb: &str, profile: &str) {
        let output = self.command(verb, profile).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "trimtab {verb} {profile}: {}\n{text}", output.status);
    }
}

/// Everything that the profiles touch.
fn node() -> (Vec<String>, Vec<String>) {
    let sysctls =
        SYSCTLS.iter().map(|row| std::fs::read_to_string(format!("/proc/sys/{}", row.0.replace('.', "/"))).unwrap());
    let tables = Family::ALL.into_iter().map(|family| print(TableId { family, backend: Backend::Nft }));
    (sysctls.collect(), tables.collect())
}

fn foreign_rules() -> Vec<String> {
    let text = print(TableId { family: Family::V4, backend: Backend::Nft });
    text.lines()
        .filter(|line| line.starts_with("-A POSTROUTING") && !line.contains("ip-masq-agent"))
        .map(str::to_owned)
        .collect()
}

/// Kills the agent, alone or (as the end of a container does) with all that it started; waits until nothing of it runs.
fn kill(mut child: Child, signal_all: bool) {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
    if signal_all {
        let _ = killpg(group, Signal::SIGKILL);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let started = Instant::now();
    while killpg(group, None).is_ok() {
        assert!(started.elapsed() < DEADLINE, "a program of the killed agent does not end");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_agent_loses_nothing_and_the_next_pass_converges() {
    if let Err(error) = Command::new("iptables-nft-save").arg("--version").output() {
        cannot_run(&format!("iptables-nft-save: {error}"));
        return;
    }
    in_fresh_namespaces(Mounts::Inherited, || {
        // The agent's locks and sockets stay inside.
        let none: Option<&str> = None;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent { folder: folder.path() };
        agent.profile("a", |row| row.1.to_owned(), "IP-MASQ-AGENT", "10.0.0.0/8, 192.168.0.0/16, fd00::/8");
        agent.profile("b", |row| row.2.to_owned(), "OTHER", "10.0.0.0/8");
        load(TableId { family: Family::V4, backend: Backend::Nft }, BEFORE);
        let (before, foreign) = (node(), foreign_rules());
        let started = Instant::now();
        agent.succeed("apply", "a");
        let whole = started.elapsed();

        let seed = u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..KILLS {
            let (verb, profile) =
                [("apply", "a"), ("apply", "b"), ("run", "b"), ("rollback", "a")][random.random_range(0..4)];
            let child = agent.start(verb, profile);
            // The random moment is what is tested here; nothing is waited for.
            std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.2)));
            kill(child, random.random());
            assert_eq!(foreign_rules(), foreign, "round {round} of seed {seed}: {verb} {profile}");
        }
        agent.succeed("apply", "a");
        agent.succeed("plan", "a");
        let (sysctls, tables) = node();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (shown, row) in sysctls.iter().zip(SYSCTLS) {
            assert_eq!(words(shown), words(row.1), "{} after seed {seed}", row.0);
        }
        assert!(tables.iter().all(|table| table.contains(":IP-MASQ-AGENT") && !table.contains("OTHER")), "{tables:?}");
        agent.succeed("rollback", "a");
        assert_eq!(node(), before, "seed {seed}");
    });
}
