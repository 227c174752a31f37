//! Pods that come, are restarted and go, in an order that a number decides; the invariants hold after each step.
#![allow(clippy::disallowed_types, reason = "tells how it goes on by the real clock")]

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::agent::{Agent, metric};
use crate::alignment;
use crate::cluster::pods::Pod;
use crate::cluster::truth::{self, Running};
use crate::scenario::{self, Machine, reserved};

/// Pods at the same time at most.
const AT_ONCE: usize = 12;
/// After so many steps it is waited until everything has settled.
const ROUND: u32 = 25;

pub(crate) fn run(machine: &mut Machine, agent: &mut Agent, pods: u32) {
    let seed = u64::from(std::process::id());
    println!("    seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut made, mut refused) = (0, 0);
    let mut steps = 0;
    let mut begin = Instant::now();
    while made < pods {
        let place = random.random_range(0..machine.running.len().max(1));
        match random.random_range(0..10) {
            0..2 if !machine.running.is_empty() => machine.restart(place),
            2..5 if !machine.running.is_empty() => machine.end(place),
            _ if machine.running.len() == AT_ONCE => machine.end(place),
            _ => {
                made += 1;
                refused += u32::from(!come(machine, &mut random));
            }
        }
        machine.check();
        steps += 1;
        if steps % ROUND == 0 {
            machine.settle(agent, "settled in the middle of the churn");
            println!("    {made} pods, {steps} steps ({:.0} s since the last line)", begin.elapsed().as_secs_f64());
            begin = Instant::now();
        }
    }
    machine.settle(agent, "settled after the churn");
    let late = metric("trimtab_pinning_late_pins_total{phase=\"later\"}").unwrap_or_default();
    println!("    {made} pods, {refused} of them refused, {steps} steps; {late} written by a pass while they started");
}

/// True if the pod runs; it is refused only when it cannot be had.
fn come(machine: &mut Machine, random: &mut StdRng) -> bool {
    let number = machine.number();
    let pod = match random.random_range(0..6) {
        0 => Pod::best_effort(number),
        1 => Pod::burstable(number, 100),
        2 => Pod::guaranteed(number, 500),
        3 => Pod::guaranteed(number, 2000),
        _ => Pod::guaranteed(number, 1000),
    };
    let asked = pod.exclusive_cpus("app");
    let free = truth::online().difference(&machine.check()).difference(&reserved());
    let sandbox = machine.kubelet.sandbox(&pod).unwrap();
    let id = match scenario::create(&machine.kubelet, &pod, &sandbox, "app", 0) {
        Ok(id) => id,
        Err(error) => {
            assert!(!alignment::fits(&machine.topology, &free, asked), "{asked} of {free}: {error:?}");
            let words = ["not enough cpus available", "Topology locality"];
            assert!(words.iter().any(|words| error.message().contains(words)), "{error:?}");
            machine.kubelet.remove_sandbox(&sandbox).unwrap();
            return false;
        }
    };
    machine.kubelet.start(&id).unwrap();
    machine.running.push(Running { pod, sandbox, container: "app".into(), id, attempt: 0 });
    true
}
