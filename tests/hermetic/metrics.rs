//! Metrics: what reports and placements become, names and labels by the rules, and the table for readers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trimtab::metrics::{Metrics, MetricsOptions};
use trimtab::ports::admission_stats::AdmissionStats;
use trimtab::ports::api_stats::ApiVerb;
use trimtab::ports::nri_stats::{AnswerExemplar, NriMethod, NriResult, RegistrationWait};
use trimtab::reconcile::node_view::{Lateness, NodeView, PinnerKind};
use trimtab::reconcile::report::{Fight, NodeReport, State, SubsystemReport};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};

use crate::support::machines::{LARGE, SMALL, busy};
use crate::support::server::{SUBSYSTEMS, container, metric_in, pending_report, pod, ready_report, two_pods};

fn metrics() -> Metrics {
    Metrics::new("1.2.3", &SUBSYSTEMS)
}

/// The same once the machine is known, with everything that can be asked for.
fn with_everything(view: NodeView) -> Metrics {
    let kubelet = Some(Arc::<AdmissionStats>::default());
    let metrics = Metrics::with("1.2.3", &SUBSYSTEMS, MetricsOptions { kubelet, exemplars: true });
    metrics.record_view(&Arc::new(view));
    let request = (ApiVerb::Get, "nodes", Some(200));
    metrics.api_server().record_request(request, Duration::ZERO, SystemTime::UNIX_EPOCH);
    metrics
}

fn value(metrics: &Metrics, series: &str) -> f64 {
    metric_in(&metrics.to_text().unwrap(), series)
}

fn with_sysctl(mut report: NodeReport, change: impl FnOnce(&mut SubsystemReport)) -> NodeReport {
    let mut sysctl = SubsystemReport::clone(&report.subsystems[0]);
    change(&mut sysctl);
    report.subsystems[0] = Arc::new(sysctl);
    report
}

fn finding(severity: Severity, code: &'static str) -> Finding {
    Finding { severity, code, object: "o".into(), message: "m".into(), remedy: String::new() }
}

#[test]
fn totals_become_counters_by_their_difference() {
    let metrics = metrics();
    let passed = |passes, failed, done, broken, drift| {
        with_sysctl(ready_report(), |sysctl| {
            sysctl.totals.passes = passes;
            sysctl.totals.failed_passes = failed;
            sysctl.totals.steps_done = done;
            sysctl.totals.steps_failed = broken;
            sysctl.totals.drift_found = drift;
            sysctl.totals.drift_healed = drift - 1;
        })
    };
    metrics.record_report(&passed(3, 1, 10, 2, 1));
    metrics.record_report(&passed(3, 1, 10, 2, 1));
    metrics.record_report(&passed(7, 2, 15, 2, 4));
    let rows = [
        ("trimtab_passes_total{subsystem=\"sysctl\",result=\"ok\"}", 5.0),
        ("trimtab_passes_total{subsystem=\"sysctl\",result=\"failed\"}", 2.0),
        ("trimtab_steps_total{subsystem=\"sysctl\",result=\"done\"}", 15.0),
        ("trimtab_steps_total{subsystem=\"sysctl\",result=\"failed\"}", 2.0),
        ("trimtab_drift_found_total{subsystem=\"sysctl\"}", 4.0),
        ("trimtab_drift_found_total{subsystem=\"cgroup\"}", 0.0),
        ("trimtab_drift_healed_total{subsystem=\"sysctl\"}", 3.0),
    ];
    for (series, expected) in rows {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
}

#[test]
fn duration_is_observed_once_for_each_pass() {
    let metrics = metrics();
    let at = |seconds, milliseconds| {
        with_sysctl(ready_report(), |sysctl| {
            sysctl.last_pass = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            sysctl.last_duration = Duration::from_millis(milliseconds);
        })
    };
    for report in [at(1, 4), at(1, 4), at(2, 40)] {
        metrics.record_report(&report);
    }
    assert_eq!(value(&metrics, "trimtab_pass_duration_seconds_count{subsystem=\"sysctl\"}"), 2.0);
    assert!((value(&metrics, "trimtab_pass_duration_seconds_sum{subsystem=\"sysctl\"}") - 0.044).abs() < 1e-9);
    let bucket = |bound: &str| {
        value(&metrics, &format!("trimtab_pass_duration_seconds_bucket{{le=\"{bound}\",subsystem=\"sysctl\"}}"))
    };
    assert_eq!((bucket("0.0025"), bucket("0.005"), bucket("0.05"), bucket("+Inf")), (0.0, 1.0, 2.0, 2.0));
}

#[test]
fn gauges_follow_the_latest_report_both_ways() {
    let metrics = metrics();
    metrics.record_report(&pending_report());
    assert_eq!(value(&metrics, "trimtab_ready"), 0.0);
    assert_eq!(value(&metrics, "trimtab_subsystem_state{subsystem=\"sysctl\",state=\"pending\"}"), 1.0);
    assert_eq!(value(&metrics, "trimtab_last_success_timestamp_seconds{subsystem=\"sysctl\"}"), 0.0);

    let refusal = |cause| Refusal { object: "o".into(), wish: "w".into(), cause, detail: "d".into() };
    let mut troubled = with_sysctl(ready_report(), |sysctl| {
        sysctl.state = State::Fighting;
        sysctl.refusals = vec![refusal(Cause::Absent), refusal(Cause::Absent), refusal(Cause::Policy)];
        sysctl.findings = vec![finding(Severity::Warning, "a"), finding(Severity::Error, "b")];
        sysctl.fights =
            vec![Fight { object: "o".into(), rewrites: 3, likely_writer: None, held_until: SystemTime::UNIX_EPOCH }];
    });
    troubled.profile.valid = false;
    troubled.findings = vec![finding(Severity::Error, "ledger-set-aside")];
    metrics.record_report(&troubled);
    let during = [
        ("trimtab_ready", 1.0),
        ("trimtab_profile_generation", 3.0),
        ("trimtab_profile_valid", 0.0),
        ("trimtab_subsystem_state{subsystem=\"sysctl\",state=\"pending\"}", 0.0),
        ("trimtab_subsystem_state{subsystem=\"sysctl\",state=\"fighting\"}", 1.0),
        ("trimtab_refusals{subsystem=\"sysctl\",cause=\"absent\"}", 2.0),
        ("trimtab_refusals{subsystem=\"sysctl\",cause=\"policy\"}", 1.0),
        ("trimtab_findings{subsystem=\"sysctl\",severity=\"warning\"}", 1.0),
        ("trimtab_findings{subsystem=\"sysctl\",severity=\"error\"}", 1.0),
        ("trimtab_findings{subsystem=\"agent\",severity=\"error\"}", 1.0),
        ("trimtab_fights{subsystem=\"sysctl\"}", 1.0),
        ("trimtab_last_success_timestamp_seconds{subsystem=\"sysctl\"}", 1.7e9),
    ];
    for (series, expected) in during {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
    metrics.record_report(&ready_report());
    for series in [
        "trimtab_refusals{subsystem=\"sysctl\",cause=\"absent\"}",
        "trimtab_findings{subsystem=\"sysctl\",severity=\"error\"}",
        "trimtab_findings{subsystem=\"agent\",severity=\"error\"}",
        "trimtab_fights{subsystem=\"sysctl\"}",
    ] {
        assert_eq!(value(&metrics, series), 0.0, "{series} after the trouble is over");
    }
    assert_eq!(value(&metrics, "trimtab_profile_valid"), 1.0);
}

#[test]
fn placements_become_cpu_counts() {
    let metrics = metrics();
    let mut view = two_pods();
    view.observe_only = Some("the kubelet pins".into());
    view.foreign_pinners.insert(PinnerKind::Kubelet);
    view.held_pods = 3;
    view.pods[0].containers[0].mispinned = Some("somebody moved it".into());
    view.late_pins.later = Lateness { count: 2, last: None, longest: Some(Duration::from_millis(250)) };
    metrics.record_view(&Arc::new(view));
    let rows = [
        ("trimtab_pinning_cpus{pool=\"exclusive\"}", 2.0),
        ("trimtab_pinning_cpus{pool=\"shared\"}", 1.0),
        ("trimtab_pinning_cpus{pool=\"reserved\"}", 1.0),
        ("trimtab_pinning_allocatable_cpus", 3.0),
        ("trimtab_pinning_pods", 2.0),
        ("trimtab_pinning_containers", 3.0),
        ("trimtab_pinning_pinned_containers", 1.0),
        ("trimtab_pinning_observe_only", 1.0),
        ("trimtab_pinning_foreign_pinner{kind=\"kubelet\"}", 1.0),
        ("trimtab_pinning_foreign_pinner{kind=\"runtime\"}", 0.0),
        ("trimtab_pinning_held_pods", 3.0),
        ("trimtab_pinning_mispinned_containers", 1.0),
        ("trimtab_pinning_late_pins_total{phase=\"later\"}", 2.0),
        ("trimtab_pinning_late_pins_total{phase=\"start\"}", 0.0),
        ("trimtab_pinning_unpinned_seconds{phase=\"later\"}", 0.25),
    ];
    for (series, expected) in rows {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
    metrics.record_view(&Arc::default());
    assert_eq!(value(&metrics, "trimtab_pinning_cpus{pool=\"exclusive\"}"), 0.0);
    assert_eq!(value(&metrics, "trimtab_pinning_mispinned_containers"), 0.0);
    assert_eq!(value(&metrics, "trimtab_pinning_foreign_pinner{kind=\"kubelet\"}"), 0.0);
    assert_eq!(value(&metrics, "trimtab_pinning_held_pods"), 0.0);
    assert_eq!(value(&metrics, "trimtab_pinning_late_pins_total{phase=\"later\"}"), 2.0, "a counter never falls");
}

#[test]
fn agent_tells_its_own_cost_and_version() {
    let metrics = metrics();
    assert!(value(&metrics, "process_resident_memory_bytes") > 1e6);
    assert!(value(&metrics, "process_virtual_memory_bytes") > value(&metrics, "process_resident_memory_bytes"));
    assert!(value(&metrics, "process_open_fds") >= 3.0);
    assert!(value(&metrics, "process_threads") >= 1.0);
    assert!(value(&metrics, "process_cpu_seconds_total") >= 0.0);
    let text = metrics.to_text().unwrap();
    assert!(text.contains("trimtab_build_info{version=\"1.2.3\",architecture=\""), "{text}");
}

/// One metric as its text describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    kind: String,
    help: String,
    unit: Option<String>,
    labels: BTreeSet<String>,
    series: usize,
}

/// Metrics by the name of their series, in the order of names.
fn describe(text: &str) -> BTreeMap<String, Described> {
    let mut found: BTreeMap<String, Described> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "EOF"] => {}
            ["#", "HELP", name, help] => {
                current = name.to_owned();
                found.entry(current.clone()).or_default().help = help.to_owned();
            }
            ["#", "TYPE", name, kind] => found.get_mut(name).unwrap().kind = kind.to_owned(),
            ["#", "UNIT", name, unit] => found.get_mut(name).unwrap().unit = Some(unit.to_owned()),
            _ => {
                let metric = found.get_mut(&current).unwrap();
                metric.series += 1;
                let labels = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
                for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
                    metric.labels.insert(pair.split_once('=').unwrap().0.to_owned());
                }
            }
        }
    }
    // In the older format names are whole already.
    let is_open = text.ends_with("# EOF\n");
    let suffix = |kind: &str| match kind {
        _ if !is_open => "",
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    found.into_iter().map(|(name, metric)| (format!("{name}{}", suffix(&metric.kind)), metric)).collect()
}

#[test]
fn names_units_and_help_keep_to_the_rules_of_prometheus() {
    let metrics = metrics();
    metrics.record_view(&Arc::new(busy(SMALL, &[])));
    let described = describe(&metrics.to_text().unwrap());
    assert!(described.len() >= 30, "{}", described.len());
    for (name, metric) in &described {
        assert!(name.starts_with("trimtab_") || name.starts_with("process_"), "{name}: prefix");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}: characters");
        assert!(!metric.help.trim_end_matches('.').is_empty(), "{name}: help");
        assert!(metric.series > 0, "{name}: its series exist from the start");
        let base = name.trim_end_matches("_total");
        if let Some(unit) = &metric.unit {
            assert!(base.ends_with(unit), "{name}: unit {unit}");
        }
        for unit in ["milliseconds", "_ms", "kilobytes", "_kb", "percent"] {
            assert!(!base.ends_with(unit), "{name}: base units only");
        }
        if metric.kind == "gauge" {
            assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{name}: suffix of another type");
        }
    }
}

#[test]
fn series_do_not_grow_with_what_happens() {
    let metrics = metrics();
    let before = series_of(&metrics);
    let report = with_sysctl(ready_report(), |sysctl| {
        sysctl.findings = vec![finding(Severity::Info, "x"), finding(Severity::Error, "y")];
        sysctl.refusals = Cause::ALL
            .map(|cause| Refusal { object: cause.to_string(), wish: "w".into(), cause, detail: "d".into() })
            .into();
    });
    metrics.record_report(&report);
    metrics.record_view(&Arc::new(two_pods()));
    assert_eq!(series_of(&metrics), before);
}

fn series_of(metrics: &Metrics) -> BTreeSet<String> {
    let text = metrics.to_text().unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// Compares a table with its golden text, or rewrites it.
fn is_up_to_date(name: &str, rows: impl Iterator<Item = (String, Described)>) {
    let mut table = String::from("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for (name, metric) in rows {
        let labels: Vec<_> =
            metric.labels.iter().filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
        let help = metric.help.trim_end_matches('.');
        table.push_str(&format!("| `{name}` | {} | {} | {help} |\n", metric.kind, labels.join(", ")));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("TRIMTAB_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(table, golden, "run the tests once with TRIMTAB_BLESS=1 and commit tests/golden/{name}");
}

fn is_ours(name: &str) -> bool {
    name.starts_with("trimtab_") || name.starts_with("process_")
}

#[test]
fn table_of_metrics_is_up_to_date() {
    let all = describe(&with_everything(busy(SMALL, &[])).to_text().unwrap());
    is_up_to_date("metrics.md", all.into_iter().filter(|(name, _)| is_ours(name)));
}

#[test]
fn table_of_the_metrics_of_the_kubelet_is_up_to_date() {
    let text = with_everything(busy(SMALL, &[])).to_plain_text().unwrap();
    is_up_to_date("kubelet-metrics.md", describe(&text).into_iter().filter(|(name, _)| !is_ours(name)));
}

/// A node as full as the kubelet lets it be by default and more: what grows with it is bounded by the machine, not by who
/// runs there.
#[test]
fn a_scrape_of_a_full_node_is_small() {
    let mut view = busy(LARGE, &[("one", 1)]);
    for number in 0..250 {
        let containers = vec![container("main", &[], vec![]), container("sidecar", &[], vec![])];
        view.pods.push(pod(
            "shop",
            &format!("pod-{number}"),
            trimtab_domain::workload::QosClass::Burstable,
            containers,
        ));
    }
    let metrics = with_everything(view);
    metrics.record_report(&ready_report());
    for bucket in [10, 60, 200, 400, 900, 2_000, 4_000, 9_000, 40_000, 200_000, 400_000, 900_000] {
        let time = Duration::from_micros(bucket);
        metrics.nri().record_answer(NriMethod::CreateContainer, NriResult::Ok, time);
        metrics.nri().record_exemplar(exemplar(time));
    }
    let text = metrics.to_text().unwrap();
    let began = tokio::time::Instant::now();
    let plain = metrics.to_plain_text().unwrap();
    eprintln!("a scrape at 250 pods: {} bytes, {:?} in this build", text.len(), began.elapsed());
    assert!(text.len().max(plain.len()) < 200 << 10, "{} and {} bytes", text.len(), plain.len());
}

#[test]
fn memory_is_shown_by_numa_node_and_adds_up() {
    let mut view = busy(SMALL, &[("db", 1)]);
    view.machine.numa_nodes[0].memory[1].book = None;
    let metrics = with_everything(view);
    let gib = f64::from(1 << 30);
    for (memory_type, usage, expected) in [
        ("memory", "free", 10.5),
        ("memory", "held", 3.5),
        ("memory", "reserved", 1.0),
        ("memory", "other", 1.0),
        ("hugepages-2Mi", "free", 0.0),
        ("hugepages-2Mi", "other", 1.0),
    ] {
        let series =
            format!("trimtab_pinning_memory_bytes{{numa_node=\"0\",memory_type=\"{memory_type}\",use=\"{usage}\"}}");
        assert_eq!(value(&metrics, &series), expected * gib, "{series}");
    }
}

fn exemplar(time: Duration) -> AnswerExemplar {
    AnswerExemplar {
        container_id: "c".repeat(64),
        pod_uid: "0d0f2c8e-7d8b-4c57-9f5b-5a6bf0b3b0b1".into(),
        time,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

#[test]
fn a_slow_creation_is_named_only_if_that_is_asked_for_and_in_openmetrics() {
    let time = Duration::from_micros(400);
    let line = "trimtab_nri_handling_seconds_bucket{le=\"0.0005\",method=\"CreateContainer\"} 1";
    for metrics in [metrics(), with_everything(NodeView::default())] {
        let stats = metrics.nri();
        stats.record_answer(NriMethod::CreateContainer, NriResult::Ok, time);
        stats.record_answer(NriMethod::StopContainer, NriResult::Ok, time);
        stats.record_exemplar(exemplar(time));
        let (open, plain) = (metrics.to_text().unwrap(), metrics.to_plain_text().unwrap());
        assert!(plain.lines().any(|found| found == line), "{plain}");
        let expected = if stats.keeps_exemplars() {
            format!(
                "{line} # {{container_id=\"{}\",pod_uid=\"0d0f2c8e-7d8b-4c57-9f5b-5a6bf0b3b0b1\"}} 0.0004 1700000000.000",
                "c".repeat(64)
            )
        } else {
            line.to_owned()
        };
        assert!(open.lines().any(|found| found == expected), "no {expected} in\n{open}");
        let named = open.lines().filter(|line| line.contains(" # {")).count();
        assert_eq!(named, usize::from(stats.keeps_exemplars()));
    }
}

#[test]
fn the_conversation_with_the_runtime_is_counted() {
    let metrics = metrics();
    let stats = metrics.nri();
    stats.record_connected(true);
    stats.record_registration();
    stats.record_wait(RegistrationWait::Terminating, Duration::from_millis(1500));
    for micros in [40, 400, 700_000] {
        stats.record_answer(NriMethod::CreateContainer, NriResult::Ok, Duration::from_micros(micros));
    }
    stats.record_answer(NriMethod::StopContainer, NriResult::Timeout, Duration::ZERO);
    stats.record_undone();
    stats.record_updates(4, 1);
    let rows = [
        ("trimtab_nri_connected", 1.0),
        ("trimtab_nri_registrations_total", 1.0),
        ("trimtab_nri_registration_wait_seconds_total{reason=\"terminating\"}", 1.5),
        ("trimtab_nri_registration_wait_seconds_total{reason=\"rate\"}", 0.0),
        ("trimtab_nri_handled_total{method=\"CreateContainer\",result=\"ok\"}", 3.0),
        ("trimtab_nri_handled_total{method=\"StopContainer\",result=\"timeout\"}", 1.0),
        ("trimtab_nri_handling_seconds_bucket{le=\"0.00005\",method=\"CreateContainer\"}", 1.0),
        ("trimtab_nri_handling_seconds_bucket{le=\"0.0005\",method=\"CreateContainer\"}", 2.0),
        ("trimtab_nri_handling_seconds_bucket{le=\"0.5\",method=\"CreateContainer\"}", 2.0),
        ("trimtab_nri_handling_seconds_bucket{le=\"+Inf\",method=\"CreateContainer\"}", 3.0),
        ("trimtab_nri_handling_seconds_count{method=\"CreateContainer\"}", 3.0),
        ("trimtab_nri_undone_total", 1.0),
        ("trimtab_nri_updates_total{result=\"done\"}", 4.0),
        ("trimtab_nri_updates_total{result=\"failed\"}", 1.0),
    ];
    for (series, expected) in rows {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
    let sum = value(&metrics, "trimtab_nri_handling_seconds_sum{method=\"CreateContainer\"}");
    assert!((sum - 0.70044).abs() < 1e-9, "{sum}");
}

#[test]
fn the_conversation_with_the_api_server_is_counted() {
    let metrics = metrics();
    assert!(!metrics.to_text().unwrap().contains("api_server_last_success"), "absent before the first");
    let stats = metrics.api_server();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    stats.record_request((ApiVerb::Apply, "nodes/status", Some(200)), Duration::from_millis(7), now);
    stats.record_request((ApiVerb::Watch, "nodeprofiles", None), Duration::from_secs(15), now);
    stats.record_wait(Duration::from_millis(1500));
    stats.record_restart();
    let rows = [
        ("trimtab_api_server_requests_total{verb=\"apply\",resource=\"nodes/status\",code=\"200\"}", 1.0),
        ("trimtab_api_server_requests_total{verb=\"watch\",resource=\"nodeprofiles\",code=\"none\"}", 1.0),
        ("trimtab_api_server_answering_seconds_bucket{le=\"0.005\",verb=\"apply\"}", 0.0),
        ("trimtab_api_server_answering_seconds_bucket{le=\"0.01\",verb=\"apply\"}", 1.0),
        ("trimtab_api_server_answering_seconds_count{verb=\"watch\"}", 1.0),
        ("trimtab_api_server_answering_seconds_count{verb=\"delete\"}", 0.0),
        ("trimtab_api_server_last_success_timestamp_seconds", 1000.0),
        ("trimtab_api_server_waiting_seconds_total", 1.5),
        ("trimtab_api_server_restarts_total", 1.0),
    ];
    for (series, expected) in rows {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
}
