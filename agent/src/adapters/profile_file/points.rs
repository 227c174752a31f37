//! Where a change of a path can come from: every directory that its resolution goes through.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links followed before the path is taken for a circle (the kernel's `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What is watched in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// Names in this directory whose appearance, change or end matters; empty: only the place's own end does.
    pub(super) names: BTreeSet<OsString>,
    /// True for the file itself.
    pub(super) is_file: bool,
    /// True for the path's own end if that is a directory: every name in it matters.
    pub(super) entries: bool,
}

/// The places to watch, by path free of links.
///
/// A mounted ConfigMap gives: the mount for `profile.yaml` and `..data`, the dated directory for `profile.yaml`, and
/// the file. Where a part of the path does not exist, the directory before it is watched for its appearance.
pub(super) fn points(path: &Path) -> BTreeMap<PathBuf, Point> {
    let mut found: BTreeMap<PathBuf, Point> = BTreeMap::new();
    let mut rest: VecDeque<OsString> = names(path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let metadata = fs::symlink_metadata(&next);
        let kind = metadata.as_ref().map(fs::Metadata::file_type).ok();
        let through_directory = kind.is_some_and(|kind| kind.is_dir()) && !rest.is_empty();
        let point = found.entry(here.clone()).or_default();
        if !through_directory {
            point.names.insert(name);
        }
        match kind {
            Some(kind) if kind.is_symlink() => {
                links += 1;
                let Ok(target) = fs::read_link(&next) else { break };
                if links > MAX_LINKS {
                    break;
                }
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                for part in names(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Some(kind) if kind.is_dir() => {
                if rest.is_empty() {
                    found.entry(next.clone()).or_default().entries = true;
                }
                here = next;
            }
            Some(_) => {
                found.entry(next).or_default().is_file = true;
                break;
            }
            None => break,
        }
    }
    found
}

fn names(path: &Path) -> VecDeque<OsString> {
    let mut names = VecDeque::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push_back(name.to_owned()),
            Component::ParentDir => names.push_back(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}
