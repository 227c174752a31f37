//! Alert rules, dashboard and metrics against each other, and under the eyes of Prometheus' own checker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimtab::metrics::MetricsOptions;
use trimtab::ports::nri_stats::{AnswerExemplar, NriMethod, NriResult};

use crate::support::machines::{SMALL, busy};
use crate::support::server::{Setup, eventually, ready_report, within};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring")
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join("dashboard.json")).unwrap()).unwrap()
}

/// Prometheus' checker: of the system, or of the package that `make tools` unpacks beside it.
fn promtool() -> Option<PathBuf> {
    let installed = PathBuf::from("/usr/bin/promtool");
    if installed.exists() {
        return Some(installed);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/packages.sh");
    let output = Command::new(script).args(["bookworm", "prometheus"]).stderr(Stdio::null()).output().ok()?;
    let unpacked = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(unpacked.trim()).join("usr/bin/promtool")).filter(|path| output.status.success() && path.exists())
}

/// Runs the checker; `None` (with a word) where there is none.
fn check(arguments: &[&str], input: &Path) -> Option<Output> {
    let Some(promtool) = promtool() else {
        assert!(std::env::var_os("CI").is_none(), "run make tools: under CI this test must run");
        eprintln!("skipped: no promtool on this machine");
        return None;
    };
    let input = std::fs::File::open(input).unwrap();
    Some(Command::new(promtool).args(arguments).current_dir(folder()).stdin(input).output().unwrap())
}

fn passes(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// The rules of every group.
fn all_rules(file: &Value) -> impl Iterator<Item = &Value> {
    file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
}

/// Every query of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let text = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    text.map(|text| text.replace("$__rate_interval", "5m").replace("$node", ".*")).collect()
}

#[test]
fn rules_are_valid_and_do_what_their_tests_say() {
    let nothing = Path::new("/dev/null");
    let Some(checked) = check(&["check", "rules", "alerts.yaml"], nothing) else { return };
    passes(&checked);
    passes(&check(&["test", "rules", "alerts_test.yaml"], nothing).unwrap());

    let file = tempfile::NamedTempFile::new().unwrap();
    let rules: Vec<Value> = queries()
        .into_iter()
        .enumerate()
        .map(|(number, expr)| serde_json::json!({ "record": format!("dashboard:query:{number}"), "expr": expr }))
        .collect();
    let rules = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(file.path(), rules.to_string()).unwrap();
    passes(&check(&["check", "rules", file.path().to_str().unwrap()], nothing).unwrap());
}

#[test]
fn every_alert_has_a_test_that_raises_it_and_one_that_does_not() {
    let (rules, tests) = (yaml("alerts.yaml"), yaml("alerts_test.yaml"));
    let tests = tests["tests"].as_array().unwrap();
    let cases: Vec<&Value> = tests.iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap()).collect();
    for rule in all_rules(&rules) {
        let of_rule = cases.iter().filter(|case| case["alertname"] == rule["alert"]);
        let raised: Vec<bool> = of_rule.map(|case| case["exp_alerts"].is_array()).collect();
        assert!(raised.contains(&true) && raised.contains(&false), "{}", rule["alert"]);
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].is_string(), "{} lacks a {annotation}", rule["alert"]);
        }
    }
}

#[test]
fn the_operator_gets_the_same_rules() {
    let (rule, pods) = (yaml("prometheus-rule.yaml"), yaml("pod-monitor.yaml"));
    let service = yaml("../service-monitor/service-monitor.yaml");
    assert_eq!(rule["spec"], yaml("alerts.yaml"), "copy the groups of alerts.yaml");
    let kinds = [(&rule, "PrometheusRule"), (&pods, "PodMonitor"), (&service, "ServiceMonitor")];
    for (manifest, kind) in kinds {
        assert_eq!(manifest["apiVersion"], "monitoring.coreos.com/v1");
        assert_eq!(manifest["kind"], kind);
    }
    // The fields of monitoring.coreos.com/v1 that are used, so that a slip of the pen shows without its schema.
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let known = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for (monitor, list) in [(&pods, "podMetricsEndpoints"), (&service, "endpoints")] {
        assert_eq!(keys(&monitor["spec"]), known(&["selector", list]));
        for endpoint in monitor["spec"][list].as_array().unwrap() {
            assert_eq!(keys(endpoint), known(&["port", "path", "interval", "scrapeTimeout", "relabelings"]));
            assert_eq!(keys(&endpoint["relabelings"][0]), known(&["sourceLabels", "targetLabel"]));
        }
    }
    assert_eq!(pods["spec"]["podMetricsEndpoints"], service["spec"]["endpoints"], "both scrape alike");
}

#[test]
fn every_metric_that_is_asked_for_exists() {
    let table = include_str!("../golden/metrics.md");
    let rows = table.lines().skip(2).map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let mut exist = BTreeSet::new();
    for row in rows {
        let name = row[1].trim_matches('`');
        let suffixes: &[&str] = if row[2] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        exist.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    }
    let rules = yaml("alerts.yaml");
    let rules = all_rules(&rules).map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let variables = dashboard()["templating"]["list"][1]["query"]["query"].as_str().unwrap().to_owned();
    let mut asked = BTreeSet::new();
    for query in rules.chain(queries()).chain([variables]) {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter(|word| word.starts_with("trimtab_") || word.starts_with("process_"));
        asked.extend(ours.map(str::to_owned));
    }
    assert!(asked.len() > 15, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&exist).collect();
    assert!(unknown.is_empty(), "no such metric: {unknown:?}");
}

/// What the checker says of names that are the kubelet's, and that it makes exceptions for itself
/// (staging/src/k8s.io/component-base/metrics/testutil/promlint.go of Kubernetes).
const KUBELETS_OWN: [&str; 11] = [
    "kubelet_container_aligned_compute_resources_count",
    "kubelet_container_aligned_compute_resources_failure_count",
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "kubelet_pod_resources_endpoint_errors_get",
    "kubelet_pod_resources_endpoint_errors_get_allocatable",
    "kubelet_pod_resources_endpoint_errors_list",
    "kubelet_pod_resources_endpoint_requests_get",
    "kubelet_pod_resources_endpoint_requests_get_allocatable",
    "kubelet_pod_resources_endpoint_requests_list",
    "kubelet_topology_manager_admission_duration_ms",
    "resource_manager_container_assignments",
];

/// Head and body of what a scraper gets.
async fn scrape(setup: Setup, accept: &str) -> (String, String) {
    let server = setup.start().await;
    let mut client = trimtab::client::connect(&server.socket()).await.unwrap();
    within(client.report()).await.unwrap();
    server.report.send_replace(Arc::new(ready_report()));
    eventually("the metrics of the report", || server.metric("trimtab_ready") > 0.0).await;
    let time = Duration::from_millis(3);
    server.metrics.nri().record_answer(NriMethod::CreateContainer, NriResult::Ok, time);
    let (container_id, pod_uid) = ("c0ffee".into(), "u1".into());
    server.metrics.nri().record_exemplar(AnswerExemplar { container_id, pod_uid, time, at: SystemTime::now() });
    let mut stream = TcpStream::connect(server.handle.http().unwrap()).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: n\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    server.shut_down().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn setup(options: MetricsOptions) -> Setup {
    let mut setup = Setup::new();
    setup.config.http = Some("127.0.0.1:0".parse().unwrap());
    (setup.report, setup.view, setup.options) = (ready_report(), busy(SMALL, &[("db", 1)]), options);
    setup
}

/// Every option: none, and all that there are.
fn every_option() -> [MetricsOptions; 2] {
    [MetricsOptions::default(), MetricsOptions { kubelet: Some(Arc::default()), exemplars: true }]
}

#[tokio::test]
async fn metrics_of_a_busy_agent_are_well_named() {
    for options in every_option() {
        let kubelet = options.kubelet.is_some();
        let (head, body) = scrape(setup(options), "text/plain;version=0.0.4").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(body.contains("# TYPE trimtab_passes_total counter\n") && !body.contains("# EOF"), "{body}");
        assert!(!body.contains(" # {"), "this format has no exemplars");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), body).unwrap();
        let Some(checked) = check(&["check", "metrics"], file.path()) else { return };
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        let about: BTreeSet<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
        let expected = if kubelet { BTreeSet::from(KUBELETS_OWN) } else { BTreeSet::new() };
        assert_eq!(about, expected, "{said}{}", String::from_utf8_lossy(&checked.stdout));
        assert!(kubelet || checked.status.success(), "nothing to complain of");
    }
}

#[tokio::test]
async fn exemplars_are_for_those_who_read_openmetrics_and_only_if_asked_for() {
    // As Prometheus asks.
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for options in every_option() {
        let asked = options.exemplars;
        let (head, body) = scrape(setup(options), accept).await;
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        assert_eq!(body.contains(" # {container_id=\"c0ffee\",pod_uid=\"u1\"} 0.003 "), asked, "{body}");
        assert!(body.ends_with("# EOF\n"));
    }
}
