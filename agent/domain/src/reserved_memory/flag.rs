//! The flag `--reserved-memory`: `GROUP(;GROUP)*` with `GROUP = INTEGER:TYPE=QUANTITY(,TYPE=QUANTITY)*`.

use std::fmt;

use super::{MemoryReservation, ResourceList, is_memory};
use crate::quantity::Quantity;
use crate::quote::Quoted;
use crate::workload::ResourceName;

/// The flag; it may be given several times, and its values add up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReservedMemoryFlag {
    reservations: Vec<MemoryReservation>,
    /// An empty value cuts the flag off from its target in the kubelet.
    cut_off: bool,
}

/// A value of the flag was refused; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReservedMemoryFlagError {
    /// A value after an empty one.
    #[error("no target (nil pointer to *[]MemoryReservation)")]
    CutOff,
    /// Not one colon.
    #[error("the reserved memory has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got {0}")]
    Group(String),
    /// The NUMA node is no integer.
    #[error("failed to convert the NUMA node ID, expected integer, got {0}")]
    NodeId(String),
    /// Not one equals sign.
    #[error("the reserved limit has incorrect value, expected type=quantity, got {0}")]
    Limit(String),
    /// Neither `memory` nor huge pages.
    #[error("memory type conversion error, unknown type: {}", Quoted(.0))]
    Kind(String),
    /// No quantity.
    #[error("failed to parse the quantity: {0}")]
    Quantity(String),
}

impl ReservedMemoryFlag {
    /// Adds one value of the flag.
    ///
    /// # Errors
    /// See [`ReservedMemoryFlagError`]; groups before the faulty one are kept.
    pub fn add(&mut self, value: &str) -> Result<(), ReservedMemoryFlagError> {
        if self.cut_off {
            return Err(ReservedMemoryFlagError::CutOff);
        }
        if value.is_empty() {
            self.cut_off = true;
            return Ok(());
        }
        for group in value.split(';') {
            self.reservations.push(parse_group(group)?);
        }
        Ok(())
    }

    /// What the values say, in their order.
    #[must_use]
    pub fn reservations(&self) -> &[MemoryReservation] {
        &self.reservations
    }
}

/// As the kubelet prints the flag: sorted as texts; nothing once it was given an empty value.
impl fmt::Display for ReservedMemoryFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut_off {
            return Ok(());
        }
        let print = |reservation: &MemoryReservation| {
            let mut limits: Vec<_> =
                reservation.limits.iter().map(|(kind, amount)| format!("{kind}={amount}")).collect();
            limits.sort();
            format!("{}:{}", reservation.numa_node, limits.join(","))
        };
        let mut groups: Vec<_> = self.reservations.iter().map(print).collect();
        groups.sort();
        f.write_str(&groups.join(","))
    }
}

fn parse_group(group: &str) -> Result<MemoryReservation, ReservedMemoryFlagError> {
    let wrong = || ReservedMemoryFlagError::Group(group.to_owned());
    let (node, limits) = group.split_once(':').ok_or_else(wrong)?;
    if limits.contains(':') {
        return Err(wrong());
    }
    let numa_node = node_id(node).ok_or_else(|| ReservedMemoryFlagError::NodeId(node.to_owned()))?;
    let mut amounts = ResourceList::new();
    for limit in limits.split(',') {
        let wrong = || ReservedMemoryFlagError::Limit(limit.to_owned());
        let (kind, quantity) = limit.split_once('=').ok_or_else(wrong)?;
        if quantity.contains('=') {
            return Err(wrong());
        }
        let name = ResourceName::from(kind);
        if !is_memory(&name) {
            return Err(ReservedMemoryFlagError::Kind(kind.to_owned()));
        }
        let amount = Quantity::parse(quantity).map_err(|_| ReservedMemoryFlagError::Quantity(quantity.to_owned()))?;
        amounts.insert(name, amount);
    }
    Ok(MemoryReservation { numa_node, limits: amounts })
}

/// A decimal integer with an optional sign; of 64 bits the low 32 are kept, as the kubelet does.
fn node_id(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id: i64 = text.parse().ok()?;
    let [a, b, c, d, ..] = id.to_le_bytes();
    Some(i32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[&str]) -> String {
        let mut flag = ReservedMemoryFlag::default();
        let added = values.iter().try_for_each(|value| flag.add(value));
        added.map_or_else(|error| error.to_string(), |()| flag.to_string())
    }

    #[test]
    fn values_accumulate_and_print_sorted() {
        assert_eq!(shown(&["1:memory=2148Mi;0:memory=3Gi"]), "0:memory=3Gi,1:memory=2148Mi");
        assert_eq!(shown(&["0:memory=1Gi,memory=2Gi", "0:hugepages-2Mi=2Mi"]), "0:hugepages-2Mi=2Mi,0:memory=2Gi");
        assert_eq!(shown(&["4294967297:memory=1Gi"]), "1:memory=1Gi", "ids are cut to 32 bits");
        assert_eq!(shown(&["0:memory=1Gi", ""]), "");
    }

    #[test]
    fn faults_name_the_part_that_is_wrong() {
        let rows = [
            (
                "0",
                "the reserved memory has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got 0",
            ),
            ("x:memory=1", "failed to convert the NUMA node ID, expected integer, got x"),
            ("0:memory=1=2", "the reserved limit has incorrect value, expected type=quantity, got memory=1=2"),
            ("0:cpu=1", "memory type conversion error, unknown type: \"cpu\""),
            ("0:memory=1gi", "failed to parse the quantity: 1gi"),
        ];
        for (value, expected) in rows {
            assert_eq!(shown(&[value]), expected);
        }
        assert_eq!(shown(&["", "0:memory=1"]), "no target (nil pointer to *[]MemoryReservation)");
    }
}
