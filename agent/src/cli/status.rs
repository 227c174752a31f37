//! What `status` prints.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use trimtab_proto::node::v1alpha1 as wire;

use super::output::{Detail, printable, table};

/// The report of the agent, as JSON and YAML show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// When the agent started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// A profile is known and every subsystem has ended a pass.
    pub ready: bool,
    /// The profile.
    pub profile: Profile,
    /// One entry per subsystem.
    pub subsystems: Vec<Subsystem>,
    /// Findings of the agent about itself.
    pub findings: Vec<Finding>,
}

/// The profile in force.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Counts the good profiles since the agent started.
    pub generation: u64,
    /// Where it came from.
    pub source: String,
    /// Whether the newest text is in force.
    pub valid: bool,
    /// Why not.
    pub errors: Vec<String>,
}

/// One subsystem.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subsystem {
    /// Its name.
    pub name: String,
    /// `pending`, `converged`, `failing`, `fighting` or `paused`.
    pub state: String,
    /// Generation of the profile of the last pass.
    pub generation: u64,
    /// Why the last pass was made: `start`, `profile`, `drift`, `resync`, `retry`, `request`, `workload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// When the last pass ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<String>,
    /// When the last pass without a failure ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<String>,
    /// How long the last pass took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_duration_seconds: Option<f64>,
    /// When the last pass that changed something ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_change: Option<String>,
    /// Steps of that pass.
    pub steps: Vec<Step>,
    /// Wishes not granted.
    pub refusals: Vec<Refusal>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// Objects that others keep changing back.
    pub fights: Vec<Fight>,
    /// The objects.
    pub objects: Vec<Object>,
    /// The last failure, until a pass succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Objects found changed by others since the agent started.
    pub drift_found: u64,
    /// Such objects that were brought back.
    pub drift_healed: u64,
    /// Passes since the agent started.
    pub passes: u64,
    /// Passes that failed.
    pub failed_passes: u64,
    /// Steps made since the agent started.
    pub steps_done: u64,
    /// Steps that failed.
    pub steps_failed: u64,
    /// The pause in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// What would be changed if there were no pause.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
}

/// A pause.
#[derive(Debug, Serialize)]
pub struct Pause {
    /// When it ends, RFC 3339.
    pub until: String,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl From<wire::Hold> for Pause {
    fn from(hold: wire::Hold) -> Self {
        let until = hold.until.map(|time| time.to_string()).unwrap_or_default();
        Self { until, by: hold.by, reason: hold.reason }
    }
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Object, old and new value.
    pub step: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One refusal.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The object.
    pub object: String,
    /// What was asked for.
    pub wish: String,
    /// One of a closed set.
    pub cause: String,
    /// Facts and remedy.
    pub detail: String,
}

/// One finding.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// Kind of finding.
    pub code: String,
    /// The object.
    pub object: String,
    /// The facts.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// One fight.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fight {
    /// The object.
    pub object: String,
    /// How often it was changed back.
    pub rewrites: u32,
    /// Who is known to write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub likely_writer: Option<String>,
    /// Left alone until then, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
}

/// One object.
#[derive(Debug, Serialize)]
pub struct Object {
    /// Its name.
    pub object: String,
    /// What the profile asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// What the node shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// Further facts.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub attributes: serde_json::Map<String, serde_json::Value>,
}

impl From<wire::NodeReport> for Status {
    fn from(report: wire::NodeReport) -> Self {
        let profile = report.profile.unwrap_or_default();
        Self {
            node: report.node,
            version: report.version,
            started: report.started.map(|time| time.to_string()),
            ready: report.ready,
            profile: Profile {
                name: profile.name,
                generation: profile.generation,
                source: profile.source,
                valid: profile.valid,
                errors: profile.errors,
            },
            subsystems: report.subsystems.into_iter().map(Subsystem::from).collect(),
            findings: report.findings.into_iter().map(Finding::from).collect(),
        }
    }
}

impl From<wire::Subsystem> for Subsystem {
    fn from(subsystem: wire::Subsystem) -> Self {
        let trigger = subsystem.trigger();
        let totals = subsystem.totals.unwrap_or_default();
        let duration = subsystem.last_duration.and_then(|time| Duration::try_from(time).ok());
        Self {
            state: word(subsystem.state().as_str_name(), "STATE_"),
            trigger: (trigger != wire::Trigger::Unspecified).then(|| word(trigger.as_str_name(), "TRIGGER_")),
            last_success: subsystem.last_success.map(|time| time.to_string()),
            last_duration_seconds: subsystem.last_pass.and(duration).map(|time| time.as_secs_f64()),
            name: subsystem.name,
            generation: subsystem.generation,
            last_pass: subsystem.last_pass.map(|time| time.to_string()),
            last_change: subsystem.last_change.map(|time| time.to_string()),
            steps: subsystem.steps.into_iter().map(|step| Step { step: step.step, error: step.error }).collect(),
            refusals: subsystem.refusals.into_iter().map(Refusal::from).collect(),
            findings: subsystem.findings.into_iter().map(Finding::from).collect(),
            fights: subsystem.fights.into_iter().map(Fight::from).collect(),
            objects: subsystem.objects.into_iter().map(Object::from).collect(),
            last_error: subsystem.last_error,
            drift_found: totals.drift_found,
            drift_healed: totals.drift_healed,
            passes: totals.passes,
            failed_passes: totals.failed_passes,
            steps_done: totals.steps_done,
            steps_failed: totals.steps_failed,
            pause: subsystem.pause.map(Pause::from),
            withheld: subsystem.withheld,
        }
    }
}

impl From<wire::Refusal> for Refusal {
    fn from(refusal: wire::Refusal) -> Self {
        let cause = word(refusal.cause().as_str_name(), "CAUSE_");
        Self { object: refusal.object, wish: refusal.wish, cause, detail: refusal.detail }
    }
}

impl From<wire::Finding> for Finding {
    fn from(finding: wire::Finding) -> Self {
        Self {
            severity: word(finding.severity().as_str_name(), "SEVERITY_"),
            code: finding.code,
            object: finding.object,
            message: finding.message,
            remedy: finding.remedy,
        }
    }
}

impl From<wire::Fight> for Fight {
    fn from(fight: wire::Fight) -> Self {
        Self {
            object: fight.object,
            rewrites: fight.rewrites,
            likely_writer: fight.likely_writer,
            held_until: fight.held_until.map(|time| time.to_string()),
        }
    }
}

impl From<wire::Object> for Object {
    fn from(object: wire::Object) -> Self {
        let attributes = object.attributes.into_iter().map(|attribute| (attribute.name, attribute.value.into()));
        Self {
            object: object.object,
            desired: object.desired,
            observed: object.observed,
            attributes: attributes.collect(),
        }
    }
}

/// `STATE_CONVERGED` becomes `converged`.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Renders for people: the node, a line per subsystem, then what needs a look; if wide, with passes and steps.
#[must_use]
pub fn render(status: &Status, detail: Detail) -> String {
    let mut text = String::new();
    let ready = if status.ready { format!("{GOOD}ready{GOOD:#}") } else { format!("{BAD}not ready{BAD:#}") };
    let _ = writeln!(text, "node {}: {ready}, trimtab {}", printable(&status.node), printable(&status.version));
    let profile = &status.profile;
    let _ = if profile.generation == 0 {
        writeln!(text, "profile: {BAD}none in force{BAD:#}")
    } else {
        let (name, source) = (printable(&profile.name), printable(&profile.source));
        writeln!(text, "profile: {name} (generation {}) from {source}", profile.generation)
    };
    if !profile.valid {
        let _ = writeln!(text, "{BAD}the newest profile is not in force:{BAD:#}");
        for error in &profile.errors {
            let _ = writeln!(text, "  {}", printable(error));
        }
    }
    render_subsystems(&mut text, status, detail);
    render_concerns(&mut text, status);
    text
}

fn render_subsystems(text: &mut String, status: &Status, detail: Detail) {
    let wide = detail == Detail::Wide;
    let mut header = vec!["SUBSYSTEM", "STATE", "OBJECTS", "REFUSED", "FINDINGS", "DRIFT", "LAST CHANGE"];
    header.extend(if wide { &["LAST PASS", "WHY", "TOOK", "PASSES", "FAILED", "STEPS", "FAILED"][..] } else { &[] });
    let mut rows = table(&header);
    let when = |time: &Option<String>| time.as_deref().map_or_else(|| "never".to_owned(), ago);
    for subsystem in &status.subsystems {
        let mut row = vec![
            printable(&subsystem.name),
            subsystem.state.clone(),
            subsystem.objects.len().to_string(),
            subsystem.refusals.len().to_string(),
            subsystem.findings.len().to_string(),
            subsystem.drift_found.to_string(),
            when(&subsystem.last_change),
        ];
        if wide {
            let took = subsystem.last_duration_seconds.map(|seconds| format!("{:.1} ms", seconds * 1000.0));
            row.extend([
                when(&subsystem.last_pass),
                subsystem.trigger.clone().unwrap_or_default(),
                took.unwrap_or_default(),
                subsystem.passes.to_string(),
                subsystem.failed_passes.to_string(),
                subsystem.steps_done.to_string(),
                subsystem.steps_failed.to_string(),
            ]);
        }
        rows.add_row(row);
    }
    let _ = writeln!(text, "\n{}", rows.trim_fmt());
}

fn render_concerns(text: &mut String, status: &Status) {
    for finding in &status.findings {
        render_finding(text, "agent", finding);
    }
    for subsystem in &status.subsystems {
        let name = printable(&subsystem.name);
        if let Some(error) = &subsystem.last_error {
            let _ = writeln!(text, "{BAD}failing{BAD:#} {name}: {}", printable(error));
        }
        if let Some(pause) = &subsystem.pause {
            let (until, by) = (printable(&pause.until), printable(&pause.by));
            let why = if pause.reason.is_empty() { String::new() } else { format!(": {}", printable(&pause.reason)) };
            let _ = writeln!(text, "{DOUBT}paused{DOUBT:#} {name} until {until} by {by}{why}");
            for step in &subsystem.withheld {
                let _ = writeln!(text, "  withheld {}", printable(step));
            }
        }
        for fight in &subsystem.fights {
            let writer = fight.likely_writer.as_deref().unwrap_or("an unknown program");
            let (object, writer) = (printable(&fight.object), printable(writer));
            let _ = writeln!(text, "{BAD}fight{BAD:#} {name}: {writer} changed {object} back {} times", fight.rewrites);
        }
        for refusal in &subsystem.refusals {
            let (object, wish) = (printable(&refusal.object), printable(&refusal.wish));
            let detail = printable(&refusal.detail);
            let _ = writeln!(text, "{DOUBT}refused{DOUBT:#} {name}: {object} = {wish} ({}): {detail}", refusal.cause);
        }
        for finding in &subsystem.findings {
            render_finding(text, &name, finding);
        }
    }
}

fn render_finding(text: &mut String, owner: &str, finding: &Finding) {
    let style = match finding.severity.as_str() {
        "error" => BAD,
        "warning" => DOUBT,
        _ => Style::new(),
    };
    let (severity, object) = (&finding.severity, printable(&finding.object));
    let _ = write!(text, "{style}{severity}{style:#} {owner}: {object}: {}", printable(&finding.message));
    let _ = if finding.remedy.is_empty() { writeln!(text) } else { writeln!(text, "; {}", printable(&finding.remedy)) };
}

/// How long ago an RFC 3339 time was; the text itself if it cannot be read.
pub(super) fn ago(time: &str) -> String {
    let Ok(then) = humantime::parse_rfc3339_weak(time) else { return printable(time) };
    let past = SystemTime::now().duration_since(then).unwrap_or_default();
    if past < Duration::from_secs(1) {
        return "now".to_owned();
    }
    format!("{} ago", humantime::format_duration(Duration::from_secs(past.as_secs())))
}
