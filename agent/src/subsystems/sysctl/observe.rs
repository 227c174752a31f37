//! Reads everything that a plan over the kernel parameters is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use trimtab_domain::record::Record;
use trimtab_domain::spec::SysctlsSpec;
use trimtab_domain::sysctl::files::{ConfFile, DIRECTORIES, settings};
use trimtab_domain::sysctl::glob::{KeyOrPattern, KeyPattern};
use trimtab_domain::sysctl::key::SYSCTL_ROOT;
use trimtab_domain::sysctl::observation::{Access, Observation, Shown};
use trimtab_domain::sysctl::{KernelVersion, SysctlKey, side_effect};

use crate::ports::{FileError, HostFiles};
use crate::reconcile::Error;

/// Most keys that one glob may match; a node with tens of thousands of interfaces has no more.
const MAX_MATCHES: usize = 65_536;

/// Reads the wished, the recorded and the reached keys.
pub(super) fn observe<F: HostFiles>(
    files: &F,
    desired: &SysctlsSpec,
    records: Vec<Record>,
) -> Result<Observation, Error> {
    let mut seen = Observation { records, kernel: kernel_version(files), ..Observation::default() };
    let mut wished = BTreeSet::new();
    for name in desired.values.keys() {
        match KeyOrPattern::parse(name) {
            Ok(KeyOrPattern::Key(key)) => {
                wished.insert(key);
            }
            Ok(KeyOrPattern::Pattern(pattern)) => {
                let (keys, unspellable) = expand(files, &pattern)?;
                wished.extend(keys.iter().cloned());
                seen.unspellable.extend(unspellable);
                seen.expansions.insert(pattern.as_str().to_owned(), keys);
            }
            // Refused by the plan.
            Err(_) => {}
        }
    }
    let recorded = seen.records.iter().filter_map(|record| SysctlKey::parse(&record.object).ok());
    let mut keys: BTreeSet<SysctlKey> = wished.iter().cloned().chain(recorded).collect();
    for reached in keys.iter().flat_map(side_effect::reached).collect::<BTreeSet<_>>() {
        match KeyOrPattern::parse(reached) {
            Ok(KeyOrPattern::Key(key)) => {
                keys.insert(key);
            }
            Ok(KeyOrPattern::Pattern(pattern)) => keys.extend(expand(files, &pattern)?.0),
            Err(_) => {}
        }
    }
    for key in keys {
        let shown = read(files, &key)?;
        seen.shown.insert(key, shown);
    }
    seen.files = settings(&conf_files(files), wished.iter());
    Ok(seen)
}

/// One key as the node shows it.
fn read<F: HostFiles>(files: &F, key: &SysctlKey) -> Result<Shown, Error> {
    let path = key.path();
    let failed = |error: FileError| {
        let why = error.source.kind();
        // The kernel's answer for good: nobody may read it, it has no value yet (EIO of `stable_secret`), a directory.
        let lasting = matches!(why, ErrorKind::PermissionDenied | ErrorKind::IsADirectory | ErrorKind::InvalidData)
            || error.source.raw_os_error() == Some(nix::errno::Errno::EIO as i32);
        if lasting {
            Ok(Shown::Unreadable(error.source.to_string()))
        } else {
            Err(Error::transient(format!("cannot observe {key}"), error))
        }
    };
    let mode = match files.mode(&path) {
        Ok(Some(mode)) => mode,
        Ok(None) => return Ok(Shown::Absent),
        Err(error) => return failed(error),
    };
    if !mode.readable {
        return Ok(Shown::Unreadable("it has no read bit".to_owned()));
    }
    let access = match (mode.writable, mode.may_write) {
        (false, _) => Access::ReadOnly,
        (true, false) => Access::Denied,
        (true, true) => Access::Writable,
    };
    match files.read(&path) {
        Ok(Some(text)) => Ok(Shown::Value(text.strip_suffix('\n').unwrap_or(&text).to_owned(), access)),
        Ok(None) => Ok(Shown::Absent),
        Err(error) => failed(error),
    }
}

/// The keys that a pattern matches now, and the names that no key can spell.
fn expand<F: HostFiles>(files: &F, pattern: &KeyPattern) -> Result<(Vec<SysctlKey>, Vec<String>), Error> {
    let failed = |error| Error::transient(format!("cannot expand {pattern}"), error);
    let components = pattern.components();
    let mut found: Vec<Vec<String>> = vec![Vec::new()];
    for (at, component) in components.iter().enumerate() {
        let is_last = at + 1 == components.len();
        let mut next = Vec::new();
        for names in found {
            if let Some(literal) = component.literal() {
                next.push(with(&names, literal));
                continue;
            }
            let directory = Path::new(SYSCTL_ROOT).join(names.iter().collect::<PathBuf>());
            let entries = files.list(&directory).map_err(failed)?.unwrap_or_default();
            let matching =
                entries.iter().filter(|entry| entry.is_directory != is_last && component.matches(&entry.name));
            next.extend(matching.map(|entry| with(&names, &entry.name)).take(MAX_MATCHES));
        }
        found = next;
    }
    let (mut keys, mut unspellable) = (Vec::new(), Vec::new());
    for names in found {
        match SysctlKey::from_file_names(names.iter().map(String::as_str)) {
            // What follows a glob need not exist for each match.
            Ok(key) if files.mode(&key.path()).map_err(failed)?.is_some() => keys.push(key),
            Ok(_) => {}
            Err(_) => unspellable.push(names.join("/")),
        }
    }
    Ok((keys, unspellable))
}

fn with(names: &[String], name: &str) -> Vec<String> {
    names.iter().cloned().chain([name.to_owned()]).collect()
}

fn kernel_version<F: HostFiles>(files: &F) -> Option<KernelVersion> {
    let release = files.read(Path::new("/proc/sys/kernel/osrelease")).ok().flatten()?;
    KernelVersion::parse(release.trim())
}

/// The node's sysctl.d files by priority; one that cannot be read is left out, for it only feeds a finding.
fn conf_files<F: HostFiles>(files: &F) -> Vec<ConfFile> {
    let mut found: BTreeMap<(usize, String), ConfFile> = BTreeMap::new();
    for (priority, directory) in DIRECTORIES.into_iter().enumerate() {
        let entries = files.list(Path::new(directory)).ok().flatten().unwrap_or_default();
        for entry in entries.into_iter().filter(|entry| entry.name.ends_with(".conf")) {
            let path = Path::new(directory).join(&entry.name);
            let text = files.read(&path).ok().flatten().unwrap_or_default();
            let file = ConfFile { directory: directory.to_owned(), name: entry.name.clone(), text };
            found.insert((priority, entry.name), file);
        }
    }
    found.into_values().collect()
}
