//! Section `cgroup`: which driver kubelet and runtime should use.

use trimtab_domain::spec::cgroup::{CgroupDriver, CgroupSpec};

use super::reader::{Cursor, Problems};

/// Fields:
/// - `driver`: `systemd` or `cgroupfs`; absent: whichever is used, as long as kubelet and runtime agree;
/// - `onMismatch`: `Report`, the only value today and the default.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<CgroupSpec> {
    let section = section.object(&["driver", "onMismatch"], problems)?;
    let drivers = [CgroupDriver::Systemd, CgroupDriver::Cgroupfs];
    let word = section.field("driver").and_then(|cursor| cursor.choice(&drivers.map(CgroupDriver::as_str), problems));
    if let Some(cursor) = section.field("onMismatch") {
        cursor.choice(&["Report"], problems);
    }
    Some(CgroupSpec { driver: drivers.into_iter().find(|driver| Some(driver.as_str()) == word) })
}
