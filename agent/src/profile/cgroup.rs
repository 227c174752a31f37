//! Section `cgroup`: which driver kubelet and runtime should use, and whether a node that uses another is moved.

use trimtab_domain::spec::cgroup::{CgroupDriver, CgroupSpec, MigrationSpec};

use super::reader::{Cursor, Problems};

/// Most nodes that may be away at a time.
pub(in crate::profile) const MAX_UNAVAILABLE: u64 = 1000;
/// Shortest and longest time that can be asked for, in seconds.
pub(in crate::profile) const SECONDS: (u64, u64) = (30, 86_400);

/// Keys of `migration`.
const KEYS: [&str; 9] = [
    "maxUnavailable",
    "drainTimeoutSeconds",
    "readyTimeoutSeconds",
    "deleteEmptyDirData",
    "force",
    "kubeletUnit",
    "runtimeUnit",
    "kubeletConfig",
    "runtimeConfig",
];

/// Fields:
/// - `driver`: `systemd` or `cgroupfs`; absent: whichever is used, as long as kubelet and runtime agree;
/// - `onMismatch`: `Report` (the default), or `Migrate`: the node is drained and moved to `driver`, which must be there;
/// - `migration`: how that is done; looked at only with `Migrate`.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<CgroupSpec> {
    let section = section.object(&["driver", "onMismatch", "migration"], problems)?;
    let drivers = [CgroupDriver::Systemd, CgroupDriver::Cgroupfs];
    let word = section.field("driver").and_then(|cursor| cursor.choice(&drivers.map(CgroupDriver::as_str), problems));
    let driver = drivers.into_iter().find(|driver| Some(driver.as_str()) == word);
    let migration = section.field("migration").and_then(|cursor| read_migration(&cursor, problems));
    let mismatch = section.field("onMismatch");
    let migrates =
        mismatch.as_ref().and_then(|cursor| cursor.choice(&["Report", "Migrate"], problems)) == Some("Migrate");
    if let Some(cursor) = mismatch.filter(|_| migrates && section.field("driver").is_none()) {
        problems.refuse(cursor.problem("nothing to migrate to").allowed("Migrate together with cgroup.driver"));
    }
    Some(CgroupSpec { driver, migration: migrates.then(|| migration.unwrap_or_default()) })
}

fn read_migration(section: &Cursor<'_>, problems: &mut Problems) -> Option<MigrationSpec> {
    let section = section.object(&KEYS, problems)?;
    let mut spec = MigrationSpec::default();
    if let Some(most) = section.field("maxUnavailable").and_then(|one| one.integer(1, MAX_UNAVAILABLE, problems)) {
        spec.max_unavailable = u32::try_from(most).unwrap_or(1);
    }
    for (key, seconds) in [
        ("drainTimeoutSeconds", &mut spec.drain_timeout_seconds),
        ("readyTimeoutSeconds", &mut spec.ready_timeout_seconds),
    ] {
        if let Some(number) = section.field(key).and_then(|one| one.integer(SECONDS.0, SECONDS.1, problems)) {
            *seconds = number;
        }
    }
    for (key, switch) in [("deleteEmptyDirData", &mut spec.delete_empty_dir_data), ("force", &mut spec.force)] {
        if let Some(state) = section.field(key).and_then(|one| one.boolean(problems)) {
            *switch = state;
        }
    }
    if let Some(unit) = section.field("kubeletUnit").and_then(|one| read_unit(&one, problems)) {
        spec.kubelet_unit = unit;
    }
    spec.runtime_unit = section.field("runtimeUnit").and_then(|one| read_unit(&one, problems));
    if let Some(path) = section.field("kubeletConfig").and_then(|one| read_path(&one, problems)) {
        spec.kubelet_config = path;
    }
    spec.runtime_config = section.field("runtimeConfig").and_then(|one| read_path(&one, problems));
    Some(spec)
}

/// systemd.unit(5): letters, digits and `:-_.\@`, at most 255 characters; services only.
fn read_unit(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let allowed = "the name of a unit such as kubelet.service";
    let name = cursor.text(allowed, problems)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() > 255 || !name.ends_with(".service") || name == ".service" || !name.chars().all(fits) {
        problems.refuse(cursor.problem("not a unit").allowed(allowed));
        return None;
    }
    Some(name.to_owned())
}

fn read_path(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let allowed = "an absolute path on the host without `..`";
    let path = cursor.text(allowed, problems)?;
    let is_plain = path.split('/').all(|part| part != "..") && !path.ends_with('/');
    if !path.starts_with('/') || path.len() > 4096 || !is_plain || path.chars().any(char::is_control) {
        problems.refuse(cursor.problem("not a path").allowed(allowed));
        return None;
    }
    Some(path.to_owned())
}
