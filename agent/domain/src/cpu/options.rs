//! The policy of the CPU manager and its options: maturity, values, combinations, and what the machine must be like.

use std::collections::BTreeMap;

use crate::topology::Machine;

/// Which options of the static policy may be used at all. [`CpuGates::default`] is what kubelet 1.36 has if nobody
/// says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuGates {
    /// `CPUManagerPolicyAlphaOptions`.
    pub alpha_options: bool,
    /// `CPUManagerPolicyBetaOptions`.
    pub beta_options: bool,
    /// `PodLevelResourceManagers`: pods with resources of their own own CPUs, too.
    pub pod_level: bool,
}

impl Default for CpuGates {
    fn default() -> Self {
        Self { alpha_options: false, beta_options: true, pod_level: false }
    }
}

/// Options of the static policy (`cpuManagerPolicyOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuOptions {
    /// `full-pcpus-only`: whole cores or a refusal.
    pub full_pcpus_only: bool,
    /// `distribute-cpus-across-numa`: evenly over as few NUMA nodes as hold the request.
    pub distribute_across_numa: bool,
    /// `align-by-socket`: socket instead of NUMA node as the boundary of a hint.
    pub align_by_socket: bool,
    /// `distribute-cpus-across-cores`: no whole cores, CPUs in the order of their numbers.
    pub distribute_across_cores: bool,
    /// `strict-cpu-reservation`: reserved CPUs are not shared either.
    pub strict_reservation: bool,
    /// `prefer-align-cpus-by-uncorecache`: as few uncore caches as possible.
    pub prefer_align_by_uncore: bool,
}

/// The options, the machine or the reservation do not suit the static policy; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticPolicyError {
    /// No option of this name.
    #[error("unknown CPU Manager Policy option: {0:?}")]
    UnknownOption(String),
    /// An alpha option without its gate.
    #[error("CPU Manager Policy Alpha-level Options not enabled, but option {0:?} provided")]
    AlphaOption(String),
    /// A beta option without its gate.
    #[error("CPU Manager Policy Beta-level Options not enabled, but option {0:?} provided")]
    BetaOption(String),
    /// A value that is no boolean.
    #[error("bad value for option {name:?}: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    NotBoolean {
        /// Name of the option.
        name: String,
        /// Its value.
        value: String,
    },
    /// Two options that contradict one another.
    #[error("static policy options {0} and {1} can not be used at the same time")]
    Conflict(&'static str, &'static str),
    /// `align-by-socket` wants more than one NUMA node where only one is allowed.
    #[error("Topolgy manager single-numa-node policy is incompatible with CPUManager align-by-socket policy option")]
    SocketAlignmentOnSingleNode,
    /// `align-by-socket` on a machine whose NUMA nodes span sockets.
    #[error("Align by socket is not compatible with hardware where number of sockets are more than number of NUMA")]
    MoreSocketsThanNodes,
    /// The reserved CPUs are not as many as reserved.
    #[error("[cpumanager] unable to reserve the required amount of CPUs (size of {reserved} did not equal {count})")]
    Reservation {
        /// The CPUs that could be reserved, or were listed.
        reserved: String,
        /// How many must be reserved.
        count: usize,
    },
}

const FULL_PCPUS_ONLY: &str = "full-pcpus-only";
const DISTRIBUTE_ACROSS_NUMA: &str = "distribute-cpus-across-numa";
const ALIGN_BY_SOCKET: &str = "align-by-socket";
const DISTRIBUTE_ACROSS_CORES: &str = "distribute-cpus-across-cores";
const STRICT_RESERVATION: &str = "strict-cpu-reservation";
const PREFER_ALIGN_BY_UNCORE: &str = "prefer-align-cpus-by-uncorecache";

impl CpuOptions {
    /// Reads the options; where several are wrong the first by name is reported.
    ///
    /// # Errors
    /// For unknown names, values that are no booleans, missing gates, and options that contradict one another.
    pub fn parse(options: &BTreeMap<String, String>, gates: CpuGates) -> Result<Self, StaticPolicyError> {
        let mut parsed = Self::default();
        for (name, value) in options {
            let field = match name.as_str() {
                FULL_PCPUS_ONLY => &mut parsed.full_pcpus_only,
                STRICT_RESERVATION => &mut parsed.strict_reservation,
                PREFER_ALIGN_BY_UNCORE => &mut parsed.prefer_align_by_uncore,
                DISTRIBUTE_ACROSS_NUMA if gates.beta_options => &mut parsed.distribute_across_numa,
                DISTRIBUTE_ACROSS_NUMA => return Err(StaticPolicyError::BetaOption(name.clone())),
                ALIGN_BY_SOCKET if gates.alpha_options => &mut parsed.align_by_socket,
                DISTRIBUTE_ACROSS_CORES if gates.alpha_options => &mut parsed.distribute_across_cores,
                ALIGN_BY_SOCKET | DISTRIBUTE_ACROSS_CORES => {
                    return Err(StaticPolicyError::AlphaOption(name.clone()));
                }
                _ => return Err(StaticPolicyError::UnknownOption(name.clone())),
            };
            *field = parse_bool(value)
                .ok_or_else(|| StaticPolicyError::NotBoolean { name: name.clone(), value: value.clone() })?;
        }
        parsed.check_combinations()?;
        Ok(parsed)
    }

    fn check_combinations(&self) -> Result<(), StaticPolicyError> {
        let (numa, cores) = (self.distribute_across_numa, self.distribute_across_cores);
        let conflicts = [
            (self.full_pcpus_only && cores, FULL_PCPUS_ONLY, DISTRIBUTE_ACROSS_CORES),
            (numa && cores, DISTRIBUTE_ACROSS_NUMA, DISTRIBUTE_ACROSS_CORES),
            (self.prefer_align_by_uncore && cores, PREFER_ALIGN_BY_UNCORE, DISTRIBUTE_ACROSS_CORES),
            (self.prefer_align_by_uncore && numa, PREFER_ALIGN_BY_UNCORE, DISTRIBUTE_ACROSS_NUMA),
        ];
        let first = conflicts.into_iter().find(|(both, ..)| *both);
        first.map_or(Ok(()), |(_, a, b)| Err(StaticPolicyError::Conflict(a, b)))
    }

    /// Checks that the machine and the topology manager suit the options.
    ///
    /// # Errors
    /// Only for `align-by-socket`: with the policy `single-numa-node`, or with more sockets than NUMA nodes.
    pub fn check_machine(&self, machine: &Machine, single_numa_node: bool) -> Result<(), StaticPolicyError> {
        if self.align_by_socket && single_numa_node {
            return Err(StaticPolicyError::SocketAlignmentOnSingleNode);
        }
        if self.align_by_socket && machine.num_sockets() > machine.num_numas() {
            return Err(StaticPolicyError::MoreSocketsThanNodes);
        }
        Ok(())
    }
}

/// The spellings that `strconv.ParseBool` of Go takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::topology::shape::{B, C, Shape};

    const OPEN: CpuGates = CpuGates { alpha_options: true, beta_options: true, pod_level: false };

    fn parse(options: &[(&str, &str)], gates: CpuGates) -> Result<CpuOptions, String> {
        let map = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        CpuOptions::parse(&map, gates).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_by_name_value_and_gate() {
        let gates = CpuGates::default();
        assert_eq!(parse(&[], gates), Ok(CpuOptions::default()));
        let both = [(FULL_PCPUS_ONLY, "T"), (DISTRIBUTE_ACROSS_NUMA, "1"), (STRICT_RESERVATION, "False")];
        let expected = CpuOptions { full_pcpus_only: true, distribute_across_numa: true, ..CpuOptions::default() };
        assert_eq!(parse(&both, gates), Ok(expected));
        assert!(parse(&[(ALIGN_BY_SOCKET, "true"), (FULL_PCPUS_ONLY, "true")], OPEN).unwrap().align_by_socket);
        let harmless = [(DISTRIBUTE_ACROSS_CORES, "true"), (FULL_PCPUS_ONLY, "false")];
        assert!(parse(&harmless, OPEN).is_ok(), "only options that are on contradict");
    }

    #[test]
    fn wrong_options_are_refused_with_the_words_of_the_kubelet() {
        let closed = CpuGates { alpha_options: false, beta_options: false, pod_level: false };
        let conflict = |a, b| format!("static policy options {a} and {b} can not be used at the same time");
        let rows = [
            (vec![("x", "true")], OPEN, r#"unknown CPU Manager Policy option: "x""#.to_owned()),
            (
                vec![(ALIGN_BY_SOCKET, "true")],
                closed,
                "CPU Manager Policy Alpha-level Options not enabled, but option \"align-by-socket\" provided".to_owned(),
            ),
            (
                vec![(DISTRIBUTE_ACROSS_NUMA, "x")],
                closed,
                "CPU Manager Policy Beta-level Options not enabled, but option \"distribute-cpus-across-numa\" provided"
                    .to_owned(),
            ),
            (
                vec![(FULL_PCPUS_ONLY, "yes")],
                closed,
                "bad value for option \"full-pcpus-only\": strconv.ParseBool: parsing \"yes\": invalid syntax".to_owned(),
            ),
            (
                vec![(FULL_PCPUS_ONLY, "1"), (DISTRIBUTE_ACROSS_CORES, "1"), (DISTRIBUTE_ACROSS_NUMA, "1")],
                OPEN,
                conflict(FULL_PCPUS_ONLY, DISTRIBUTE_ACROSS_CORES),
            ),
            (
                vec![(PREFER_ALIGN_BY_UNCORE, "1"), (DISTRIBUTE_ACROSS_NUMA, "1")],
                OPEN,
                conflict(PREFER_ALIGN_BY_UNCORE, DISTRIBUTE_ACROSS_NUMA),
            ),
        ];
        for (options, gates, message) in rows {
            assert_eq!(parse(&options, gates), Err(message), "{options:?}");
        }
    }

    #[test]
    fn socket_alignment_needs_nodes_inside_sockets() {
        let options = CpuOptions { align_by_socket: true, ..CpuOptions::default() };
        let wide_node = Shape { sockets: 1, ..B }.machine();
        assert_eq!(options.check_machine(&C.machine(), false), Ok(()));
        assert_eq!(options.check_machine(&wide_node, true), Err(StaticPolicyError::SocketAlignmentOnSingleNode));
        let cpus: Vec<_> = (0..2)
            .map(|id| crate::topology::CpuInfo { cpu: id, core: id, socket: id, numa: 0, uncore_cache: None })
            .collect();
        let machine = Machine::new(&cpus, vec![crate::topology::NumaNode::default()], None).unwrap();
        assert_eq!(options.check_machine(&machine, false), Err(StaticPolicyError::MoreSocketsThanNodes));
    }
}
