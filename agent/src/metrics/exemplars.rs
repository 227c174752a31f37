//! Puts the container that waited beside the buckets of how long the container runtime waited.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars>

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use crate::ports::nri_stats::{AnswerExemplar, NriStats};

/// What the lines of the buckets begin with; the metrics library has no way to be told an exemplar.
const BUCKET: &str = "trimtab_nri_handling_seconds_bucket{";
const OF_CREATIONS: &str = ",method=\"CreateContainer\"}";

/// Longest set of labels of an exemplar, in characters of names and values.
const MAX_CHARACTERS: usize = 128;

/// The text with exemplars.
pub(super) fn weave(text: &str, stats: &NriStats) -> String {
    let exemplars = stats.exemplars();
    let mut woven = String::with_capacity(text.len() + 256 * exemplars.len());
    let mut bucket = exemplars.iter();
    for line in text.lines() {
        woven.push_str(line);
        let is_bucket = line.starts_with(BUCKET) && line.contains(OF_CREATIONS);
        if let Some(Some(exemplar)) = is_bucket.then(|| bucket.next()).flatten() {
            write_exemplar(&mut woven, exemplar);
        }
        woven.push('\n');
    }
    woven
}

fn write_exemplar(out: &mut String, exemplar: &AnswerExemplar) {
    let mut room = MAX_CHARACTERS;
    let mut labels = Vec::new();
    for (name, value) in [("container_id", &exemplar.container_id), ("pod_uid", &exemplar.pod_uid)] {
        let taken = name.chars().count() + value.chars().count();
        if taken <= room {
            room -= taken;
            labels.push(format!("{name}=\"{}\"", escaped(value)));
        }
    }
    if labels.is_empty() {
        return;
    }
    let at = exemplar.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let _ = write!(out, " # {{{}}} {} {at:.3}", labels.join(","), exemplar.time.as_secs_f64());
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn labels_are_escaped_and_never_too_long() {
        let exemplar = |container: &str, pod: &str| AnswerExemplar {
            container_id: container.into(),
            pod_uid: pod.into(),
            time: Duration::from_micros(1500),
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
        };
        let rows = [
            (exemplar("c", "p"), " # {container_id=\"c\",pod_uid=\"p\"} 0.0015 1700000000.250".to_owned()),
            (
                exemplar("\"\\\n", "p"),
                " # {container_id=\"\\\"\\\\\\n\",pod_uid=\"p\"} 0.0015 1700000000.250".to_owned(),
            ),
            (exemplar(&"c".repeat(117), "p"), " # {pod_uid=\"p\"} 0.0015 1700000000.250".to_owned()),
            (exemplar(&"c".repeat(200), &"p".repeat(200)), String::new()),
        ];
        for (exemplar, expected) in rows {
            let mut out = String::new();
            write_exemplar(&mut out, &exemplar);
            assert_eq!(out, expected);
        }
    }
}
