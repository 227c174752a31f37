//! Conditions of the Node: what is true of it, in the words of the API server.

use super::health::{NodeHealth, PartHealth, Standing, Trouble};

/// Longest message of a condition; the API server takes more, `kubectl describe` is read by people.
const MAX_MESSAGE: usize = 512;

/// A condition that the agent keeps on its Node. All are `True` when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// A profile is in force and every part has ended a pass over it.
    TrimtabReady,
    /// Kernel parameters, huge pages and modules are as the profile says.
    KernelTuned,
    /// Containers have the CPUs and the memory that they are entitled to.
    PinningHealthy,
    /// The masquerade rules are as the profile says.
    MasqueradeHealthy,
    /// Kubelet and runtime use the same cgroup driver, and the wanted one.
    CgroupDriverMatched,
}

impl ConditionType {
    /// Every condition, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::TrimtabReady,
        Self::KernelTuned,
        Self::PinningHealthy,
        Self::MasqueradeHealthy,
        Self::CgroupDriverMatched,
    ];

    /// Its name in `status.conditions`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TrimtabReady => "TrimtabReady",
            Self::KernelTuned => "KernelTuned",
            Self::PinningHealthy => "PinningHealthy",
            Self::MasqueradeHealthy => "MasqueradeHealthy",
            Self::CgroupDriverMatched => "CgroupDriverMatched",
        }
    }

    /// The parts of the node that it is about; empty: all.
    const fn parts(self) -> &'static [&'static str] {
        match self {
            Self::TrimtabReady => &[],
            Self::KernelTuned => &["sysctl", "kernel"],
            Self::PinningHealthy => &["pinning", "allocatable"],
            Self::MasqueradeHealthy => &["masquerade"],
            Self::CgroupDriverMatched => &["cgroup"],
        }
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl Truth {
    /// The word in `status.conditions`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word of a closed set.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

/// All conditions of a node.
#[must_use]
pub fn conditions(health: &NodeHealth) -> Vec<Condition> {
    let condition = |kind: ConditionType| {
        let (status, reason, message) = match kind {
            ConditionType::TrimtabReady => readiness(health),
            _ => of_parts(&health.parts.iter().filter(|part| kind.parts().contains(&part.name)).collect::<Vec<_>>()),
        };
        Condition { kind, status, reason, message: shorten(&message) }
    };
    ConditionType::ALL.into_iter().map(condition).collect()
}

fn readiness(health: &NodeHealth) -> (Truth, &'static str, String) {
    if health.generation == 0 {
        let why = health.profile_errors.first().map_or("no profile was found".to_owned(), String::clone);
        return (Truth::False, "NoProfile", why);
    }
    let profile = match health.profile.as_str() {
        "" => "no profile".to_owned(),
        name => format!("profile {name}"),
    };
    if !health.ready {
        let unready = health.parts.iter().find_map(|part| Some((part.name, part.unready.as_ref()?)));
        return match unready {
            Some((part, why)) => (Truth::False, "NotReady", format!("{part}: {why}")),
            None => (Truth::False, "FirstPass", format!("{profile} is being applied for the first time")),
        };
    }
    if let Some(waiting) = health.waiting.as_ref().filter(|_| health.profile_errors.is_empty()) {
        return (Truth::True, "RolloutWaiting", format!("{profile} stays in force as it was: {waiting}"));
    }
    match health.profile_errors.first() {
        Some(error) => {
            (Truth::True, "ProfileRefused", format!("{profile} stays in force, the newest is refused: {error}"))
        }
        None => (Truth::True, "ProfileInForce", format!("{profile} is in force, from {}", health.source)),
    }
}

fn of_parts(parts: &[&PartHealth]) -> (Truth, &'static str, String) {
    let first = |of: fn(&PartHealth) -> &[Trouble]| {
        let all: Vec<&Trouble> = parts.iter().flat_map(|part| of(part)).collect();
        let first = all.first().copied()?;
        let more = if all.len() > 1 { format!(" (and {} more)", all.len() - 1) } else { String::new() };
        Some(format!("{}: {}{more}", first.object, first.detail))
    };
    if let Some(part) = parts.iter().find(|part| part.standing == Standing::Failing) {
        let error = part.error.clone().unwrap_or_else(|| "a pass has failed".to_owned());
        let taken_back = part.findings.iter().any(|finding| finding.code == "change-not-confirmed");
        let reason = if taken_back { "NotConfirmed" } else { "Failing" };
        return (Truth::False, reason, format!("{}: {error}", part.name));
    }
    if let Some(fight) = first(|part| &part.fights) {
        return (Truth::False, "Fighting", fight);
    }
    if let Some(refused) = first(|part| &part.refusals) {
        return (Truth::False, "Refused", refused);
    }
    if parts.iter().any(|part| part.standing == Standing::Pending) {
        return (Truth::Unknown, "Pending", "no pass has ended yet".to_owned());
    }
    if parts.iter().any(|part| part.standing == Standing::Paused) {
        return (Truth::Unknown, "Paused", "a person has asked the agent to keep its hands off for a while".to_owned());
    }
    if let Some(finding) = first(|part| &part.findings) {
        return (Truth::False, "Trouble", finding);
    }
    match parts.iter().map(|part| part.asked).sum::<usize>() {
        0 => (Truth::True, "NotManaged", "the profile asks for nothing here".to_owned()),
        _ => (Truth::True, "InSync", "all is as the profile says".to_owned()),
    }
}

fn shorten(message: &str) -> String {
    // It may hold what others have written, and `kubectl` prints it on a terminal.
    let message = message.replace(char::is_control, " ");
    if message.chars().count() <= MAX_MESSAGE {
        return message;
    }
    let mut cut: String = message.chars().take(MAX_MESSAGE - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests;
