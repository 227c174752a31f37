//! The ledger on disk: what was there before the agent wrote, kept until it has been given back.
//!
//! One file, replaced whole: temporary file, fsync, rename, fsync of the directory. The generation before is kept
//! beside it. The first line names format, version, length and checksum, so that a torn or edited file is recognised;
//! it is then set aside under another name, never deleted, and the generation before takes its place if it is whole.

#![expect(clippy::disallowed_methods, reason = "this adapter is where the ledger meets the disk")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::record::{LedgerChange, Original, Record};

use crate::ports::{Ledger, LedgerError};

/// Version of the format; a file of a later one is refused, not guessed at.
const VERSION: u32 = 1;
const MAGIC: &str = "trimtab-ledger";
const CURRENT: &str = "ledger";
const PREVIOUS: &str = "ledger.previous";
const UNFINISHED: &str = ".ledger.new";

/// Everything that is remembered: subsystem, then object.
type Content = BTreeMap<String, BTreeMap<String, Kept>>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    original: Original,
    ordered: String,
}

/// The ledger in a state directory.
#[derive(Debug)]
pub struct DiskLedger {
    directory: PathBuf,
    content: Mutex<Content>,
}

/// The ledger could not be opened; the agent does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory or a file in it could not be used.
    #[error("cannot {op} {}", path.display())]
    File {
        /// `create`, `read`, `set aside` …
        op: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A later release wrote it.
    #[error(
        "the ledger {} has version {found}, this release knows {VERSION}; run the release that wrote it, or roll back with that one first",
        path.display()
    )]
    Newer {
        /// The path.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
}

/// Why a ledger file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The first line is missing or is not ours.
    #[error("the first line is not `{MAGIC} VERSION LENGTH CHECKSUM`")]
    Header,
    /// A later release wrote it.
    #[error("version {0}")]
    Newer(u32),
    /// Torn or edited.
    #[error("{found} bytes follow the first line, which promises {promised}")]
    Length {
        /// Bytes present.
        found: usize,
        /// Bytes promised.
        promised: usize,
    },
    /// Edited, or a bad disk.
    #[error("checksum {found:016x}, the first line promises {promised:016x}")]
    Checksum {
        /// Of the bytes present.
        found: u64,
        /// Promised.
        promised: u64,
    },
    /// The checksum is right and the text is not.
    #[error("the content cannot be read: {0}")]
    Content(String),
}

impl DiskLedger {
    /// Opens the ledger of a state directory, creating the directory (mode 0700) if need be. Returns what had to be
    /// set aside as findings.
    ///
    /// # Errors
    /// [`OpenError`] if the directory cannot be used or a later release wrote the ledger.
    pub fn open(directory: &Path) -> Result<(Self, Vec<Finding>), OpenError> {
        create_private(directory).map_err(|source| file_error("create", directory, source))?;
        let mut findings = Vec::new();
        let current = read_generation(directory, CURRENT, &mut findings)?;
        let content = match current {
            Some(content) => content,
            None => {
                let previous = read_generation(directory, PREVIOUS, &mut findings)?;
                if findings.is_empty() && previous.is_some() {
                    // The rename to the previous generation was the last thing that reached the disk: nothing is lost.
                    previous.unwrap_or_default()
                } else {
                    recovered(directory, previous, &mut findings)
                }
            }
        };
        Ok((Self { directory: directory.to_owned(), content: Mutex::new(content) }, findings))
    }

    /// Reads the ledger for a dry run: creates nothing, sets nothing aside. A directory or file that is not there is an
    /// empty ledger; the first whole generation counts, and damaged ones before it are findings.
    ///
    /// # Errors
    /// [`OpenError`] if a file exists and cannot be read, or a later release wrote it.
    pub fn peek(directory: &Path) -> Result<(Self, Vec<Finding>), OpenError> {
        let mut content = Content::new();
        let mut findings = Vec::new();
        for name in [CURRENT, PREVIOUS] {
            let path = directory.join(name);
            let parsed = match fs::read(&path) {
                Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(file_error("read", &path, source)),
            };
            match parsed {
                Ok(whole) => {
                    content = whole;
                    break;
                }
                Err(Damage::Newer(found)) => return Err(OpenError::Newer { path, found }),
                Err(damage) => {
                    let remedy = "look at it now: the next command that writes sets it aside under another name";
                    findings.push(damaged(&path, &damage, "it is not used", remedy));
                }
            }
        }
        Ok((Self { directory: directory.to_owned(), content: Mutex::new(content) }, findings))
    }

    /// Names of the subsystems that have something to give back.
    #[must_use]
    pub fn subsystems(&self) -> Vec<String> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.iter().filter(|(_, objects)| !objects.is_empty()).map(|(name, _)| name.clone()).collect()
    }

    fn persist(&self, content: &Content) -> Result<(), LedgerError> {
        let path = self.directory.join(CURRENT);
        let fail = |op: &'static str| {
            let path = path.clone();
            move |source: io::Error| LedgerError { op, path, source }
        };
        let text = render(content).map_err(|error| fail("render")(io::Error::other(error)))?;
        // Always the same name, so that what a crash left is overwritten; the lock keeps other agents away.
        let unfinished = self.directory.join(UNFINISHED);
        let mut file = File::create(&unfinished).map_err(fail("create a temporary file for"))?;
        file.write_all(text.as_bytes()).map_err(fail("write"))?;
        file.sync_all().map_err(fail("sync"))?;
        let previous = self.directory.join(PREVIOUS);
        match fs::rename(&path, &previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fail("keep the generation before of")(error));
            }
            _ => {}
        }
        fs::rename(&unfinished, &path).map_err(fail("rename"))?;
        File::open(&self.directory).and_then(|dir| dir.sync_all()).map_err(fail("sync the directory of"))
    }
}

impl Ledger for DiskLedger {
    fn records(&self, subsystem: &str) -> Vec<Record> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = content.get(subsystem).into_iter().flatten();
        objects
            .map(|(object, kept)| Record {
                object: object.clone(),
                original: kept.original.clone(),
                ordered: kept.ordered.clone(),
            })
            .collect()
    }

    fn commit(&self, subsystem: &str, changes: &[LedgerChange]) -> Result<(), LedgerError> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = content.clone();
        let objects = next.entry(subsystem.to_owned()).or_default();
        for change in changes {
            match change {
                LedgerChange::Promise(record) => {
                    objects
                        .entry(record.object.clone())
                        .and_modify(|kept| kept.ordered.clone_from(&record.ordered))
                        .or_insert_with(|| Kept { original: record.original.clone(), ordered: record.ordered.clone() });
                }
                LedgerChange::Forget { object } => {
                    objects.remove(object);
                }
            }
        }
        if objects.is_empty() {
            next.remove(subsystem);
        }
        if next != *content {
            self.persist(&next)?;
            *content = next;
        }
        Ok(())
    }
}

fn render(content: &Content) -> Result<String, serde_json::Error> {
    let body = serde_json::to_string_pretty(content)?;
    Ok(format!("{MAGIC} {VERSION} {} {:016x}\n{body}", body.len(), checksum(&body)))
}

fn parse(text: &str) -> Result<Content, Damage> {
    let (header, body) = text.split_once('\n').ok_or(Damage::Header)?;
    let mut words = header.split(' ');
    let mut word = || words.next().ok_or(Damage::Header);
    if word()? != MAGIC {
        return Err(Damage::Header);
    }
    let version: u32 = word()?.parse().map_err(|_| Damage::Header)?;
    if version > VERSION {
        return Err(Damage::Newer(version));
    }
    let promised: usize = word()?.parse().map_err(|_| Damage::Header)?;
    let sum = u64::from_str_radix(word()?, 16).map_err(|_| Damage::Header)?;
    if body.len() != promised {
        return Err(Damage::Length { found: body.len(), promised });
    }
    let found = checksum(body);
    if found != sum {
        return Err(Damage::Checksum { found, promised: sum });
    }
    serde_json::from_str(body).map_err(|error| Damage::Content(error.to_string()))
}

/// FNV-1a, 64 bits: it finds torn and edited files; it is no protection against forgery, the file's mode is.
fn checksum(body: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(body.as_bytes());
    hasher.finish()
}

/// Reads one generation; a damaged one is set aside and gives `None` and a finding.
fn read_generation(directory: &Path, name: &str, findings: &mut Vec<Finding>) -> Result<Option<Content>, OpenError> {
    let path = directory.join(name);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file_error("read", &path, source)),
    };
    let damage = match parse(&String::from_utf8_lossy(&bytes)) {
        Ok(content) => return Ok(Some(content)),
        Err(Damage::Newer(found)) => return Err(OpenError::Newer { path, found }),
        Err(damage) => damage,
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let aside = (0..)
        .map(|n| directory.join(format!("{name}.damaged-{}", seconds + n)))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| directory.join(format!("{name}.damaged")));
    fs::rename(&path, &aside).map_err(|source| file_error("set aside", &path, source))?;
    let remedy = "look at the file that was set aside before removing it: it may name original values";
    findings.push(damaged(&path, &damage, &format!("it is kept as {}", aside.display()), remedy));
    Ok(None)
}

fn damaged(path: &Path, damage: &Damage, fate: &str, remedy: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        code: "ledger-damaged",
        object: path.display().to_string(),
        message: format!("the ledger cannot be used: {damage}; {fate}"),
        remedy: remedy.to_owned(),
    }
}

/// What goes on after the current generation is gone or damaged.
fn recovered(directory: &Path, previous: Option<Content>, findings: &mut Vec<Finding>) -> Content {
    if findings.is_empty() {
        return Content::new();
    }
    let (message, content) = match previous {
        Some(content) => {
            let objects: usize = content.values().map(BTreeMap::len).sum();
            (format!("the generation before is used; it knows {objects} objects"), content)
        }
        None => {
            ("original values written before now are not known and cannot be given back".to_owned(), Content::new())
        }
    };
    findings.push(Finding {
        severity: Severity::Warning,
        code: "ledger-recovered",
        object: directory.join(CURRENT).display().to_string(),
        message,
        remedy: String::new(),
    });
    content
}

fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn file_error(op: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::File { op, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
