//! Tables on how the machine model is made.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

fn cpu(cpu: u32, core: u32, socket: u32, numa: u32) -> CpuInfo {
    CpuInfo { cpu, core, socket, numa, uncore_cache: None }
}

fn node(id: u32) -> NumaNode {
    NumaNode { id, ..NumaNode::default() }
}

#[test]
fn cores_are_named_by_their_lowest_online_thread() {
    // CPU 0 is offline; the hardware repeats core ids between sockets.
    let cpus = [cpu(4, 0, 0, 0), cpu(1, 1, 0, 0), cpu(5, 1, 0, 0), cpu(2, 0, 1, 2), cpu(6, 0, 1, 2)];
    let machine = Machine::new(&cpus, vec![node(2), node(0), node(1)], None).unwrap();
    assert_eq!(machine.cores().iter().map(Unit::id).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(machine.place(6).unwrap(), CpuPlace { numa: 2, socket: 1, core: 2, uncore: 1 });
    assert_eq!(machine.place(0), None);
    assert_eq!((machine.num_cpus(), machine.num_sockets(), machine.num_numas()), (5, 2, 2));
    assert_eq!((machine.cpus_per_core(), machine.cpus_per_socket(), machine.cpus_per_uncore()), (1, 2, 2));
    assert_eq!(machine.node_mask(), NumaMask(0b111), "the node without CPUs is a node all the same");
    assert_eq!(machine.with_siblings(&CpuSet::range(5, 6)).to_string(), "1-2,5-6");
}

#[test]
fn sockets_of_a_mask_are_taken_whole() {
    let cpus = [cpu(0, 0, 0, 0), cpu(1, 1, 0, 1), cpu(2, 2, 1, 2), cpu(3, 3, 1, 3)];
    let machine = Machine::new(&cpus, (0..4).map(node).collect(), Some(2)).unwrap();
    assert_eq!(machine.cpus_in_numas(NumaMask(0b0110)).to_string(), "1-2");
    assert_eq!(machine.cpus_in_sockets_of(NumaMask(0b0010)).to_string(), "0-1");
    assert_eq!(machine.cpus_in_sockets_of(NumaMask(0b0110)).to_string(), "0-3");
}

#[test]
fn data_that_is_no_machine_is_refused() {
    for (name, cpus, nodes, error) in [
        ("no cpu", vec![], vec![node(0)], MachineError::NoCpus),
        ("twice", vec![cpu(1, 0, 0, 0), cpu(1, 1, 0, 0)], vec![node(0)], MachineError::DuplicateCpu(1)),
        ("high cpu", vec![cpu(8192, 0, 0, 0)], vec![node(0)], MachineError::CpuTooHigh(8192)),
        ("high node", vec![cpu(0, 0, 0, 0)], vec![node(0), node(64)], MachineError::NodeTooHigh(64)),
        ("same node", vec![cpu(0, 0, 0, 0)], vec![node(0), node(0)], MachineError::DuplicateNode(0)),
        ("no node", vec![cpu(0, 0, 0, 1)], vec![node(0)], MachineError::UnknownNode { cpu: 0, numa: 1 }),
    ] {
        assert_eq!(Machine::new(&cpus, nodes, None), Err(error), "{name}");
    }
}

#[test]
fn only_online_cpus_count_as_isolated() {
    let machine = Machine::new(&[cpu(0, 0, 0, 0), cpu(1, 1, 0, 0)], vec![node(0)], None).unwrap();
    assert_eq!(machine.with_isolated(&CpuSet::range(1, 7)).isolated().to_string(), "1");
}
