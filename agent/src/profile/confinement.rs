//! The parts of `resourceManagers.extensions` that keep the system's own work off the CPUs of pods.

use trimtab_domain::allocatable::interrupt::InterruptCpus;
use trimtab_domain::spec::resource_managers::ConfinementSpec;

use super::reader::{Cursor, Object, Problems};

/// Fields.
pub(super) const FIELDS: [&str; 2] = ["confineSystem", "interruptCPUs"];
/// Values of `interruptCPUs`.
const INTERRUPT_CPUS: [(&str, InterruptCpus); 3] =
    [("Any", InterruptCpus::Any), ("Reserved", InterruptCpus::Reserved), ("NotIsolated", InterruptCpus::NotIsolated)];

/// `confineSystem`: a list of cgroups; `interruptCPUs`: a word.
pub(super) fn read(extensions: &Object<'_>, problems: &mut Problems) -> ConfinementSpec {
    let mut confinement = ConfinementSpec::default();
    let allowed = "a list of cgroups outside the tree of pods, such as system.slice";
    let items = extensions.field("confineSystem").and_then(|cursor| cursor.list(allowed, problems));
    for item in items.unwrap_or_default() {
        let Some(name) = read_cgroup(&item, problems) else { continue };
        if confinement.cgroups.iter().any(|known| known == name) {
            problems.refuse(item.problem("listed twice").allowed("each cgroup once"));
        }
        confinement.cgroups.push(name.to_owned());
    }
    let names = INTERRUPT_CPUS.map(|(name, _)| name);
    let chosen = extensions.field("interruptCPUs").and_then(|cursor| cursor.choice(&names, problems));
    let found = INTERRUPT_CPUS.iter().find(|(name, _)| Some(*name) == chosen);
    confinement.interrupts = found.map_or(InterruptCpus::Any, |(_, cpus)| *cpus);
    confinement
}

/// Name of a cgroup: a path without `.` and `..`, not the root.
fn read_cgroup<'a>(cursor: &Cursor<'a>, problems: &mut Problems) -> Option<&'a str> {
    let allowed = "a cgroup such as system.slice";
    let name = cursor.text(allowed, problems)?;
    let parts = || name.trim_matches('/').split('/');
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(|c| c.is_ascii_graphic());
    if !parts().all(plain) {
        problems.refuse(cursor.problem("not a cgroup").allowed(allowed));
        return None;
    }
    Some(name)
}
