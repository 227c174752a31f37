//! What others do to a node: each time the invariants hold at once or again.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use trimtab_domain::cpuset::CpuSet;

use crate::agent::{Agent, metric, write_profile};
use crate::cluster::containerd::SOCKET;
use crate::cluster::cri::{Cri, VersionRequest, VersionResponse};
use crate::cluster::pods::{Driver, Kubelet, Pod};
use crate::cluster::truth::{self, Running};
use crate::cluster::wait::timed;
use crate::scenario::{self, Machine, pinning, profile, reserved, system};

/// systemd writes what its units say: pins that only files bear would be lost.
pub(crate) fn daemon_reload(machine: &Machine, agent: &mut Agent) {
    machine.settle(agent, "settled before");
    system("systemctl", &["daemon-reload"]);
    let ((), took) = timed(|| machine.settle(agent, "settled after daemon-reload"));
    println!("    settled after {} ms", took.as_millis());
}

pub(crate) fn resize(machine: &mut Machine, agent: &mut Agent) {
    let place = machine.running.iter().position(|one| one.pod.exclusive_cpus("app") == 1).unwrap();
    for cpus in [2, 1] {
        let Running { pod, id, .. } = &mut machine.running[place];
        let wish = &mut pod.wishes[0];
        (wish.request_milli, wish.limit_milli) = (cpus * 1000, cpus * 1000);
        machine.kubelet.resize(pod, "app", id).unwrap();
        machine.settle(agent, &format!("resized to {cpus}"));
    }
}

pub(crate) fn runtime_restart(machine: &mut Machine, agent: &mut Agent) {
    let before = machine.check();
    system("systemctl", &["restart", "containerd"]);
    agent.until("the runtime answers", || {
        let cri = Cri::connect(Path::new(SOCKET)).map_err(|error| error.to_string())?;
        let asked = cri.call::<VersionResponse>("Version", VersionRequest { version: "v1".into() });
        asked.map(|_| ()).map_err(|error| error.to_string())
    });
    machine.kubelet = Kubelet::new(Path::new(SOCKET), Driver::Systemd);
    assert_eq!(machine.check(), before, "who runs stays where he is");
    // The agent may not have found the runtime again: then what starts is pinned a moment later.
    let number = machine.number();
    machine.run(Pod::guaranteed(number, 1000));
    machine.settle(agent, "a pod that came after the restart is placed");
    machine.end(machine.running.len() - 1);
    machine.settle(agent, "and gone again");
}

/// Takes a CPU away that somebody holds.
pub(crate) fn hotplug(machine: &Machine, agent: &mut Agent) {
    let victim = machine.check().last().unwrap();
    let file = format!("/sys/devices/system/cpu/cpu{victim}/online");
    fs::write(&file, "0").unwrap();
    agent.until("everybody runs on CPUs that are there", || {
        let online = truth::online();
        assert!(!online.contains(victim));
        let taken = truth::exclusive(&machine.running, &reserved())?;
        if taken.is_subset(&online) { Ok(()) } else { Err(format!("{taken} of {online}")) }
    });
    fs::write(&file, "1").unwrap();
    machine.settle(agent, "the CPU is back");
}

/// What holds the sandbox of a pinned pod dies, so that the runtime does not call it ready any more: its container runs on
/// and keeps its CPUs, whoever comes.
pub(crate) fn sandbox_death(machine: &mut Machine, agent: &mut Agent) {
    let place = machine.running.iter().position(|one| one.pod.exclusive_cpus("app") == 1).unwrap();
    let before = machine.check();
    let sandbox = machine.running[place].sandbox.clone();
    truth::kill_all(&sandbox);
    agent.until("the runtime sees it", || {
        if machine.kubelet.cri.is_ready(&sandbox) { Err("it is ready still".into()) } else { Ok(()) }
    });
    let number = machine.number();
    machine.run(Pod::guaranteed(number, 1000));
    assert!(before.is_subset(&machine.check()));
    machine.settle(agent, "settled with a dead sandbox");
    machine.end(machine.running.len() - 1);
    // The kubelet ends such a pod and makes it anew.
    let pod = machine.running[place].pod.clone();
    machine.end(place);
    machine.run(pod);
    machine.settle(agent, "the pod is made anew");
}

/// A reserved CPU goes away: nobody who is pinned moves.
pub(crate) fn reserved_hotplug(machine: &mut Machine, agent: &mut Agent) {
    let victim = reserved().iter().last().unwrap();
    let before = machine.check();
    let file = format!("/sys/devices/system/cpu/cpu{victim}/online");
    fs::write(&file, "0").unwrap();
    machine.settle(agent, "settled without a reserved CPU");
    assert_eq!(machine.check(), before);
    let number = machine.number();
    machine.run(Pod::guaranteed(number, 1000));
    assert!(before.is_subset(&machine.check()), "who comes meanwhile is pinned");
    machine.end(machine.running.len() - 1);
    fs::write(&file, "1").unwrap();
    machine.settle(agent, "the reserved CPU is back");
    assert_eq!(machine.check(), before);
}

pub(crate) fn policy(machine: &Machine, agent: &mut Agent) {
    write_profile(&profile("  sysctls: {}\n"));
    agent.until("without a policy everybody may run everywhere", || {
        let allowed = truth::containers();
        let online = truth::online();
        let bound = machine.running.iter().find(|one| allowed[&one.id].cpus != online);
        bound.map_or(Ok(()), |one| Err(format!("{} may use {}", one.pod.name, allowed[&one.id].cpus)))
    });
    write_profile(&profile(&pinning(&machine.topology)));
    machine.settle(agent, "the policy is in force again, for those who run");
}

/// SIGKILL at every stage of a creation; the next agent makes good what was missed.
pub(crate) fn kill(machine: &mut Machine, mut agent: Agent) -> Agent {
    for delay in [0, 40, 80, 160] {
        let pod = Pod::guaranteed(machine.number(), 1000);
        let making = {
            let pod = pod.clone();
            thread::spawn(move || {
                let kubelet = Kubelet::new(Path::new(SOCKET), Driver::Systemd);
                let sandbox = kubelet.sandbox(&pod).unwrap();
                let id = scenario::create(&kubelet, &pod, &sandbox, "app", 0).unwrap();
                kubelet.start(&id).unwrap();
                (sandbox, id)
            })
        };
        thread::sleep(Duration::from_millis(delay));
        drop(agent);
        agent = Agent::start();
        let (sandbox, id) = making.join().unwrap();
        machine.running.push(Running { pod, sandbox, container: "app".into(), id, attempt: 0 });
        machine.settle(&mut agent, "settled after a kill");
        let held: CpuSet = machine.check();
        assert!(held.len() >= 4, "{held}");
        machine.end(machine.running.len() - 1);
        machine.settle(&mut agent, "given back after a kill");
    }
    // What the last one left grows back in the pass after.
    agent.until("nobody is mispinned after the kills", || match metric("trimtab_pinning_mispinned_containers") {
        Some(0.0) => Ok(()),
        other => Err(format!("{other:?} are")),
    });
    agent
}
