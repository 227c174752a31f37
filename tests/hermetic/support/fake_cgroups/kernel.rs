//! What the kernel does when a file of `cpuset` or a bound of CPU time is written (measured on Linux 6.1 and 6.18).

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;

use crate::support::fake_host::Contents;

/// A set is written; `all` is what the machine has.
pub(super) fn write_set(
    contents: &mut Contents,
    (version, kind): (Version, &str),
    directory: &Path,
    (text, all): (&str, &CpuSet),
) -> Result<String, Errno> {
    let set = CpuSet::parse(text.trim()).map_err(|_| Errno::EINVAL)?;
    if !set.is_subset(all) {
        return Err(Errno::ERANGE);
    }
    if version == Version::V1 {
        check_v1(contents, directory, kind, &set)?;
    }
    if set.is_empty() && populated(contents, directory) {
        return Err(Errno::ENOSPC);
    }
    match version {
        Version::V1 => {
            contents.insert(directory.join(effective_name(Version::V1, kind)), format!("{set}\n"));
        }
        Version::V2 => write_v2(contents, directory, kind, &set),
    }
    Ok(set.to_string())
}

/// Every bound, with a period or without.
pub(super) fn quota_v2(text: &str) -> Result<String, Errno> {
    let (quota, period) = text.trim().split_once(' ').unwrap_or((text.trim(), "100000"));
    let valid = quota == "max" || quota.parse::<u64>().is_ok();
    if valid { Ok(format!("{quota} {period}")) } else { Err(Errno::EINVAL) }
}

/// None that is wider than that of the cgroup above, nor one that is narrower than that of a cgroup below
/// (`tg_cfs_schedulable_down`).
pub(super) fn quota_v1(contents: &Contents, directory: &Path, file: &str, text: &str) -> Result<String, Errno> {
    let quota: i64 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    let of = |directory: &Path| -> Option<i64> {
        contents.get(&directory.join(file))?.trim().parse().ok().filter(|quota| *quota >= 0)
    };
    let above = directory.parent().and_then(of);
    let below = children(contents, directory, file);
    let widest = below.iter().filter_map(|child| of(child)).max();
    if quota >= 0 && (above.is_some_and(|above| quota > above) || widest.is_some_and(|widest| quota < widest)) {
        return Err(Errno::EINVAL);
    }
    Ok(quota.to_string())
}

pub(super) fn effective_name(version: Version, kind: &str) -> String {
    if version == Version::V1 { format!("cpuset.effective_{kind}") } else { format!("cpuset.{kind}.effective") }
}

pub(super) fn set_of(contents: &Contents, file: &Path) -> Option<CpuSet> {
    contents.get(file).map(|text| CpuSet::parse(text.trim()).unwrap())
}

fn populated(contents: &Contents, directory: &Path) -> bool {
    let procs =
        |path: &Path| path.starts_with(directory) && path.file_name().is_some_and(|name| name == "cgroup.procs");
    contents.iter().any(|(path, text)| procs(path) && !text.is_empty())
}

pub(super) fn children(contents: &Contents, directory: &Path, file: &str) -> Vec<PathBuf> {
    let child = |path: &Path| path.parent().and_then(Path::parent) == Some(directory);
    let named = contents.keys().filter(|path| path.file_name().is_some_and(|name| name == file) && child(path));
    named.map(|path| path.parent().unwrap().to_owned()).collect()
}

/// In the order of the kernel (`validate_change`): a cgroup with children that have sets is busy before it is populated.
fn check_v1(contents: &Contents, directory: &Path, kind: &str, set: &CpuSet) -> Result<(), Errno> {
    let file = format!("cpuset.{kind}");
    for child in children(contents, directory, &file) {
        if !set_of(contents, &child.join(&file)).unwrap().is_subset(set) {
            return Err(Errno::EBUSY);
        }
    }
    let parent = directory.parent().and_then(|parent| set_of(contents, &parent.join(&file)));
    if parent.is_some_and(|parent| !set.is_subset(&parent)) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

pub(super) fn write_v2(contents: &mut Contents, directory: &Path, kind: &str, set: &CpuSet) {
    let effective = effective_name(Version::V2, kind);
    let above = directory.parent().and_then(|parent| set_of(contents, &parent.join(&effective))).unwrap_or_default();
    let granted = set.intersection(&above);
    let granted = if granted.is_empty() { above } else { granted };
    contents.insert(directory.join(&effective), format!("{granted}\n"));
    for child in children(contents, directory, &effective) {
        let configured = set_of(contents, &child.join(format!("cpuset.{kind}"))).unwrap_or_default();
        write_v2(contents, &child, kind, &configured);
    }
}
