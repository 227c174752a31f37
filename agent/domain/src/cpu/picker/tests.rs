//! Tables that the reference was run on, and what every choice must keep on any machine.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::topology::shape::{A, B, C, D, E, Shape};
use crate::topology::{CpuInfo, NumaNode};

const PACKED: CpuOptions = CpuOptions {
    full_pcpus_only: false,
    distribute_across_numa: false,
    align_by_socket: false,
    distribute_across_cores: false,
    strict_reservation: false,
    prefer_align_by_uncore: false,
};
const SPREAD: CpuOptions = CpuOptions { distribute_across_cores: true, ..PACKED };
const UNCORE: CpuOptions = CpuOptions { prefer_align_by_uncore: true, ..PACKED };
const NUMA: CpuOptions = CpuOptions { distribute_across_numa: true, ..PACKED };
const NUMA_CORES: CpuOptions = CpuOptions { full_pcpus_only: true, ..NUMA };

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

/// Shape, free CPUs, options, and pairs of count and result.
type Row<'a> = (Shape, &'a str, CpuOptions, &'a [(usize, &'a str)]);

fn check(rows: &[Row<'_>]) {
    for (shape, free, options, results) in rows {
        let machine = shape.machine();
        for (count, expected) in *results {
            let taken = take(&machine, &set(free), *count, options).unwrap().to_string();
            assert_eq!(taken, *expected, "{count} of {free} on {shape:?} with {options:?}");
        }
    }
}

#[test]
fn the_packed_form_fills_what_is_broken_up_first() {
    check(&[
        (A, "0-7", PACKED, &[(0, ""), (1, "0"), (2, "0,4"), (3, "0-1,4"), (4, "0-1,4-5")]),
        (A, "1-7", PACKED, &[(1, "4"), (2, "1,5"), (3, "1,4-5")]),
        (A, "1-3,5-7", PACKED, &[(3, "1-2,5")]),
        (B, "0-15", PACKED, &[(8, "0-3,8-11"), (9, "0-4,8-11"), (12, "0-5,8-13")]),
        (B, "1-15", PACKED, &[(2, "1,9"), (8, "4-7,12-15"), (9, "4-8,12-15")]),
        (C, "0-31", PACKED, &[(10, "0-4,16-20"), (16, "0-7,16-23"), (18, "0-8,16-24")]),
        (C, "1-31", PACKED, &[(8, "4-7,20-23"), (16, "8-15,24-31")]),
        (C, "1-3,5-31", PACKED, &[(20, "1-2,8-15,17-18,24-31")]),
    ]);
}

#[test]
fn the_spread_form_goes_by_cpu_number() {
    check(&[
        (A, "0-7", SPREAD, &[(2, "0-1"), (3, "0-2"), (4, "0-3")]),
        (A, "1-7", SPREAD, &[(3, "1-3")]),
        (B, "1-3,5-15", SPREAD, &[(4, "1-3,8")]),
    ]);
}

#[test]
fn caches_are_filled_one_by_one() {
    check(&[
        (D, "0-31", UNCORE, &[(3, "0-1,16"), (7, "0-3,16-18"), (9, "0-4,16-19"), (12, "0-5,16-21")]),
        (D, "1-31", UNCORE, &[(3, "1,16-17"), (6, "4-6,20-22"), (7, "1-3,16-19"), (8, "4-7,20-23")]),
        (D, "1-31", PACKED, &[(6, "1-3,17-19")]),
        (D, "2-3,6-7,10-11,14-15,18-19,22-23,26-27,30-31", UNCORE, &[(4, "2-3,18-19"), (6, "2-3,6,18-19,22")]),
        (E, "1-7", UNCORE, &[(3, "1-3"), (4, "4-7"), (5, "1,4-7")]),
    ]);
}

#[test]
fn the_distributed_form_divides_evenly() {
    check(&[
        (B, "0-15", NUMA, &[(9, "0-2,4-5,8-9,12-13"), (10, "0-2,4-6,8-9,12-13"), (12, "0-2,4-6,8-10,12-14")]),
        (B, "0-15", NUMA_CORES, &[(9, "0-4,8-11"), (10, "0-2,4-5,8-10,12-13")]),
        (B, "1-15", NUMA, &[(9, "1-2,4-6,9-10,12-13"), (11, "1-2,4-6,8-10,12-14")]),
        (B, "1-15", NUMA_CORES, &[(10, "1-2,4-6,9-10,12-14")]),
        (B, "2-7,10-15", NUMA, &[(11, "2-7,10,12-15")]),
        (
            C,
            "0-31",
            NUMA,
            &[
                (17, "0-2,4-6,8-10,16-18,20-22,24-25"),
                (20, "0-10,16-18,20-22,24-26"),
                (26, "0-10,12-14,16-18,20-22,24-26,28-30"),
            ],
        ),
        (C, "0-31", NUMA_CORES, &[(20, "0-6,8-10,16-22,24-26"), (26, "0-6,8-10,12-14,16-22,24-26,28-30")]),
        (C, "4-31", NUMA, &[(13, "4-10,20-22,24-26")]),
        (C, "2-31", NUMA, &[(14, "4-11,20-22,24-26"), (15, "4-11,20-26")]),
    ]);
}

#[test]
fn odd_leftovers_end_the_distribution() {
    let machine = C.machine();
    let free = machine.online().difference(&set("0,4,8,12"));
    let taken = |count| take(&machine, &free, count, &NUMA_CORES).unwrap();
    assert_eq!(taken(22).len(), 22, "the reference never answers this");
    assert_eq!(taken(20).to_string(), "1-3,5-7,9-10,13-14,17-19,21-23,25-26,29-30");
}

#[test]
fn a_core_is_whole_only_if_all_its_cpus_are_free() {
    // Cores {0,4}, {1,5}, 2 and 3: six CPUs on four cores, one per core on average.
    let machine = A.machine_without(&set("6-7"));
    let taken = take(&machine, &set("1-5"), 2, &PACKED).unwrap();
    assert!(
        taken.is_subset(&set("1-5")),
        "CPU 0 is not free, but its core has as many free CPUs as the average: {taken}"
    );
}

#[test]
fn too_few_free_cpus_are_told() {
    let error = take(&A.machine(), &set("1-3"), 4, &PACKED).unwrap_err();
    assert_eq!(error.to_string(), "not enough cpus available to satisfy request: requested=4, available=3");
}

#[test]
fn a_machine_with_64_nodes_is_divided_without_trying_everything() {
    let machine = Shape { sockets: 8, numas: 8, caches: 2, cores: 16, threads: 2 }.machine();
    let free = machine.online().difference(&CpuSet::range(0, 70));
    for (count, nodes) in [(100, 2), (1000, 16), (2000, 32), (4000, 64)] {
        let taken = take(&machine, &free, count, &NUMA_CORES).unwrap();
        let used = machine.numas().iter().map(|numa| numa.cpus().intersection_len(&taken)).filter(|cpus| *cpus > 0);
        assert_eq!((taken.len(), used.count()), (count, nodes), "{count} CPUs");
        assert!(taken.is_subset(&free));
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1..=3_u32, 1..=3_u32, 1..=2_u32, 1..=3_u32, prop::sample::select(vec![1, 1, 2, 2, 2, 4]))
        .prop_map(|(sockets, numas, caches, cores, threads)| Shape { sockets, numas, caches, cores, threads })
}

/// Machines that nobody builds: every CPU anywhere, caches and sockets across nodes, CPUs missing.
fn odd_machines() -> impl Strategy<Value = (Machine, CpuSet)> {
    let cpu = (0..5_u32, 0..3_u32, 0..4_u32, 0..4_u8);
    let cpus = prop::collection::vec(cpu, 1..28);
    let scattered = (cpus, 0..4_u32).prop_map(|(cpus, caches)| {
        // Threads of a core share their cache; without caches the socket takes its place.
        let cache = |core: u32, socket: u32, numa: u32| (core * 5 + socket * 3 + numa).checked_rem(caches);
        let infos: Vec<_> = (0..)
            .zip(&cpus)
            .map(|(cpu, (core, socket, numa, _))| {
                let (core, socket, numa) = (*core, *socket, *numa);
                CpuInfo { cpu, core, socket, numa, uncore_cache: cache(core, socket, numa) }
            })
            .collect();
        let nodes = (0..4).map(|id| NumaNode { id, ..NumaNode::default() }).collect();
        let free = (0..).zip(&cpus).filter(|(_, (.., busy))| *busy > 0).map(|(cpu, _)| cpu).collect();
        (Machine::new(&infos, nodes, None).unwrap(), free)
    });
    prop_oneof![machines(false), machines(true), scattered]
}

/// True if all cores and all sockets have the same size, and no unit lies across another.
fn is_uniform(machine: &Machine) -> bool {
    let same = |units: &[Unit], size| units.iter().all(|unit| unit.len() == size);
    same(machine.cores(), machine.cpus_per_core())
        && same(machine.sockets(), machine.cpus_per_socket())
        && machine.links().sockets_of_numa.iter().all(|sockets| sockets.len() == 1)
}

fn options() -> impl Strategy<Value = CpuOptions> {
    prop::sample::select(vec![
        PACKED,
        SPREAD,
        UNCORE,
        NUMA,
        NUMA_CORES,
        CpuOptions { full_pcpus_only: true, ..PACKED },
        CpuOptions { full_pcpus_only: true, ..UNCORE },
    ])
}

/// A machine, some of its CPUs offline if wanted, and a free part of the rest.
fn machines(damaged: bool) -> impl Strategy<Value = (Machine, CpuSet)> {
    (shapes(), any::<[u64; 2]>(), any::<[u64; 2]>(), any::<bool>()).prop_map(move |(shape, holes, busy, all)| {
        let total = shape.total_cores() * shape.threads;
        let sparse = |bits: [u64; 2]| move |cpu: &u32| bits[0] >> (cpu % 64) & bits[1] >> (cpu % 61) & 1 == 1;
        let offline = (1..total).filter(sparse(holes)).filter(|_| damaged).collect();
        let machine = shape.machine_without(&offline);
        let busy: CpuSet = (0..total).filter(sparse(busy)).filter(|_| !all).collect();
        let free = machine.online().difference(&busy);
        (machine, free)
    })
}

proptest! {
    #[test]
    fn the_right_number_of_free_cpus_is_taken((machine, free) in machines(true), options in options(), share in 0..=100_usize) {
        let count = free.len() * share / 100;
        let taken = take(&machine, &free, count, &options).unwrap();
        prop_assert!(taken.is_subset(&free));
        prop_assert_eq!(taken.len(), count);
        prop_assert_eq!(take(&machine, &free, count, &options).unwrap(), taken);
        prop_assert!(take(&machine, &free, free.len() + 1, &options).is_err());
    }

    #[test]
    fn the_plain_reading_of_the_rules_agrees(
        (machine, free) in odd_machines(), options in options(), share in 0..=100_usize,
    ) {
        let count = free.len() * share / 100;
        let plain = naive::take(&machine, &free.iter().collect(), count, &options);
        let plain: CpuSet = plain.into_iter().flatten().collect();
        let sound = plain.is_subset(&free) && plain.len() == count;
        // The set of nodes that the kubelet is left with may lack the CPUs, and then it fails.
        prop_assert!(sound || !is_uniform(&machine) || options.distribute_across_numa);
        if sound && (is_uniform(&machine) || !options.distribute_across_numa) {
            prop_assert_eq!(take(&machine, &free, count, &options).unwrap(), plain);
        }
    }

    #[test]
    fn the_steps_that_are_taken_down_make_up_the_choice((machine, free) in machines(true), options in options(), share in 0..=100_usize) {
        let count = free.len() * share / 100;
        let mut trace = Trace::on();
        let style = Style::new(&machine, &options, WholeUnits::Verified);
        let taken = choose(&machine, &free, count, style, &mut trace).unwrap();
        prop_assert_eq!(&taken, &take(&machine, &free, count, &options).unwrap());
        let mut rest = taken;
        for step in &trace.steps {
            prop_assert!(step.cpus.is_subset(&rest) && !step.cpus.is_empty(), "{step:?} of {rest}");
            rest.remove_all(&step.cpus);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn whole_cores_stay_whole((machine, _) in machines(false), busy in any::<u64>(), numa: bool, share in 0..=100_usize) {
        let taken_cores = machine.cores().iter().enumerate().filter(|(core, _)| busy >> (core % 64) & 1 == 1);
        let busy = taken_cores.fold(CpuSet::new(), |all, (_, core)| all.union(core.cpus()));
        let free = machine.online().difference(&busy);
        let group = machine.cpus_per_core();
        let count = free.len() / group * share / 100 * group;
        let options = if numa { NUMA_CORES } else { CpuOptions { full_pcpus_only: true, ..PACKED } };
        let taken = take(&machine, &free, count, &options).unwrap();
        prop_assert_eq!(machine.with_siblings(&taken), taken);
    }

    #[test]
    fn what_is_verified_and_what_the_kubelet_counts_agree_on_regular_machines(
        (machine, free) in machines(false), options in options(), share in 0..=100_usize,
    ) {
        let count = free.len() * share / 100;
        let style = Style::new(&machine, &options, WholeUnits::ByAverage);
        let by_average = choose(&machine, &free, count, style, &mut Trace::off()).unwrap();
        prop_assert_eq!(take(&machine, &free, count, &options).unwrap(), by_average);
    }
}
