//! The older text format of Prometheus, for tools that do not read OpenMetrics.

use std::fmt::Write as _;

use super::kubelet_names::COUNTERS_WITHOUT_SUFFIX;

/// Turns OpenMetrics text 1.0 into the text format 0.0.4: there the name of a counter or an info ends in its suffix
/// wherever it is named, there are no units, and nothing marks the end.
///
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
#[must_use]
pub fn from_openmetrics(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // Help comes before the type, which decides on the name.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" if COUNTERS_WITHOUT_SUFFIX.contains(&name) => ("", "counter"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(plain, "# HELP {name}{suffix} {words}");
            }
            let _ = writeln!(plain, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(plain, "{line}");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_their_suffix_and_marks_are_left_out() {
        let open = "# HELP a Help of a.\n# TYPE a counter\n# UNIT a seconds\na_total{x=\"# TYPE\"} 1\n\
                    # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n# TYPE c gauge\nc 2\n# HELP d D.\n# TYPE d histogram\n\
                    d_sum 0.0\nd_count 0\nd_bucket{le=\"+Inf\"} 0\n# TYPE e unknown\ne 1\n# EOF\n";
        let plain = "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"# TYPE\"} 1\n\
                     # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# TYPE c gauge\nc 2\n# HELP d D.\n\
                     # TYPE d histogram\nd_sum 0.0\nd_count 0\nd_bucket{le=\"+Inf\"} 0\n# TYPE e untyped\ne 1\n";
        assert_eq!(from_openmetrics(open), plain);
    }
}
