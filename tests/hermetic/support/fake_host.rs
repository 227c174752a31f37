//! A node's files in memory. What it models, and why:
//!
//! - a kernel file reads back with a line feed: the code under test must not compare raw texts;
//! - absent files and directories: an older kernel, a module that is not loaded;
//! - files without a write bit, and files that the mode allows but this process may not write: read-only sysctls,
//!   user namespaces, read-only mounts;
//! - values that the kernel rejects, clamps, rounds or spells differently, and writes that change a second file;
//! - writes of other programs, which the log of our own writes leaves out: drift;
//! - reads and writes that fail a given number of times: a broken step that is made good later;
//! - every write of ours in order: dry runs and second passes must leave the log empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;
use trimtab::ports::{Entry, FileError, HostFiles, Mode};

/// Content of every file, as a behaviour sees it.
pub(crate) type Contents = BTreeMap<PathBuf, String>;

/// What a kernel file makes of a write: the text that it shows from then on (without line feed), or an errno. It may
/// change other files, too.
pub(crate) type Behaviour = Arc<dyn Fn(&str, &mut Contents) -> Result<String, Errno> + Send + Sync>;

/// One change that the code under test made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A kernel file was written.
    Write(PathBuf, String),
    /// An ordinary file was made or replaced.
    Replace(PathBuf, String),
    /// An ordinary file was removed.
    Remove(PathBuf),
}

/// Files in memory. Clones share the same node.
#[derive(Clone, Default)]
pub(crate) struct FakeHost {
    node: Arc<Mutex<Node>>,
}

#[derive(Default)]
struct Node {
    contents: Contents,
    directories: BTreeSet<PathBuf>,
    /// Directories by the order in which they were made: kernfs numbers its inodes so.
    births: BTreeMap<PathBuf, u64>,
    born: u64,
    links: BTreeMap<PathBuf, PathBuf>,
    modes: BTreeMap<PathBuf, Mode>,
    behaviours: BTreeMap<PathBuf, Behaviour>,
    failing_reads: BTreeMap<PathBuf, (Errno, usize)>,
    failing_writes: BTreeMap<PathBuf, (Errno, usize)>,
    changes: Vec<Change>,
    attempts: usize,
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Makes a file (and the directories above it); a kernel file's text ends with a line feed, so give it one.
    pub(crate) fn file(&self, path: impl AsRef<Path>, text: impl Into<String>) -> &Self {
        let path = path.as_ref().to_owned();
        let mut node = self.node();
        node.make_parents(&path);
        node.contents.insert(path, text.into());
        drop(node);
        self
    }

    /// Makes `/proc/sys/...` from a dotted key (an interface name with a dot is spelled with a slash).
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> &Self {
        self.file(sysctl_path(key), format!("{value}\n"))
    }

    /// Makes an empty directory.
    pub(crate) fn directory(&self, path: impl AsRef<Path>) -> &Self {
        let mut node = self.node();
        node.make_parents(path.as_ref());
        node.make_directory(path.as_ref().to_owned());
        drop(node);
        self
    }

    /// Makes a symbolic link. Reads do not follow it: the code under test asks with `read_link`.
    pub(crate) fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> &Self {
        let mut node = self.node();
        node.make_parents(path.as_ref());
        node.links.insert(path.as_ref().to_owned(), target.as_ref().to_owned());
        drop(node);
        self
    }

    /// No write bit, as for `net.core.rmem_max` in a network namespace.
    pub(crate) fn read_only(&self, path: impl AsRef<Path>) -> &Self {
        self.set_mode(path, Mode { readable: true, writable: false, may_write: false })
    }

    /// A write bit that is of no use to this process: a user namespace, a read-only mount.
    pub(crate) fn not_permitted(&self, path: impl AsRef<Path>) -> &Self {
        self.set_mode(path, Mode { readable: true, writable: true, may_write: false })
    }

    /// No read bit, as for `net.ipv4.route.flush`.
    pub(crate) fn write_only(&self, path: impl AsRef<Path>) -> &Self {
        self.set_mode(path, Mode { readable: false, writable: true, may_write: true })
    }

    fn set_mode(&self, path: impl AsRef<Path>, mode: Mode) -> &Self {
        self.node().modes.insert(path.as_ref().to_owned(), mode);
        self
    }

    /// How the kernel treats a write to this file.
    pub(crate) fn on_write(
        &self,
        path: impl AsRef<Path>,
        behaviour: impl Fn(&str, &mut Contents) -> Result<String, Errno> + Send + Sync + 'static,
    ) -> &Self {
        self.node().behaviours.insert(path.as_ref().to_owned(), Arc::new(behaviour));
        self
    }

    /// The kernel keeps the number within bounds without a word.
    pub(crate) fn clamps(&self, path: impl AsRef<Path>, low: i64, high: i64) -> &Self {
        self.on_write(path, move |text, _| {
            let number: i64 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            Ok(number.clamp(low, high).to_string())
        })
    }

    /// The kernel takes no value but these.
    pub(crate) fn accepts_only(&self, path: impl AsRef<Path>, allowed: &[&str]) -> &Self {
        let allowed: Vec<String> = allowed.iter().map(|&value| value.to_owned()).collect();
        self.on_write(path, move |text, _| {
            let text = text.trim();
            if allowed.iter().any(|value| value == text) { Ok(text.to_owned()) } else { Err(Errno::EINVAL) }
        })
    }

    /// A vector of numbers, which the kernel shows with tabs.
    pub(crate) fn shows_tabs(&self, path: impl AsRef<Path>) -> &Self {
        self.on_write(path, |text, _| Ok(text.split_whitespace().collect::<Vec<_>>().join("\t")))
    }

    /// The next `times` writes of ours fail.
    pub(crate) fn fail_writes(&self, path: impl AsRef<Path>, errno: Errno, times: usize) -> &Self {
        self.node().failing_writes.insert(path.as_ref().to_owned(), (errno, times));
        self
    }

    /// The next `times` reads of ours fail.
    pub(crate) fn fail_reads(&self, path: impl AsRef<Path>, errno: Errno, times: usize) -> &Self {
        self.node().failing_reads.insert(path.as_ref().to_owned(), (errno, times));
        self
    }

    /// Failing files work again.
    pub(crate) fn repair(&self) -> &Self {
        let mut node = self.node();
        node.failing_reads.clear();
        node.failing_writes.clear();
        drop(node);
        self
    }

    /// Another program writes: the kernel treats it as any write, the log of our own writes leaves it out.
    pub(crate) fn write_by_other(&self, path: impl AsRef<Path>, text: &str) -> &Self {
        let path = path.as_ref().to_owned();
        let mut node = self.node();
        assert!(node.contents.contains_key(&path), "{} does not exist", path.display());
        node.kernel_write(&path, text).unwrap_or_else(|errno| panic!("{}: {errno}", path.display()));
        drop(node);
        self
    }

    /// A file or a whole directory goes away: an interface, a module.
    pub(crate) fn vanish(&self, path: impl AsRef<Path>) -> &Self {
        let path = path.as_ref();
        let mut node = self.node();
        node.contents.retain(|file, _| !file.starts_with(path));
        node.directories.retain(|directory| !directory.starts_with(path));
        node.links.retain(|link, _| !link.starts_with(path));
        drop(node);
        self
    }

    /// Text of a file, trimmed.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        self.node().contents.get(path.as_ref()).map(|text| text.trim().to_owned())
    }

    /// Every file with its text, to compare before with after.
    pub(crate) fn snapshot(&self) -> Contents {
        self.node().contents.clone()
    }

    /// What the code under test changed since the last call.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.node().changes)
    }

    /// How often the code under test tried to change anything since the last call, failures included.
    pub(crate) fn take_attempts(&self) -> usize {
        std::mem::take(&mut self.node().attempts)
    }

    /// How often the code under test tried to change anything since the last [`take_attempts`](Self::take_attempts).
    pub(crate) fn attempts(&self) -> usize {
        self.node().attempts
    }

    fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap()
    }
}

/// `/proc/sys/...` of a dotted key.
pub(crate) fn sysctl_path(key: &str) -> PathBuf {
    let file_names = key.split('.').map(|segment| segment.replace('/', "."));
    Path::new("/proc/sys").join(file_names.collect::<PathBuf>())
}

impl Node {
    fn make_parents(&mut self, path: &Path) {
        let above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        above.into_iter().rev().for_each(|directory| self.make_directory(directory));
    }

    fn make_directory(&mut self, directory: PathBuf) {
        if self.directories.insert(directory.clone()) {
            self.born += 1;
            self.births.insert(directory, self.born);
        }
    }

    fn kernel_write(&mut self, path: &Path, text: &str) -> Result<(), Errno> {
        let shown = match self.behaviours.get(path).cloned() {
            Some(behaviour) => behaviour(text, &mut self.contents)?,
            None => text.trim_end_matches('\n').to_owned(),
        };
        self.contents.insert(path.to_owned(), format!("{shown}\n"));
        Ok(())
    }

    fn fails(&mut self, op: &'static str, path: &Path, value: Option<&str>) -> Result<(), FileError> {
        let failing = if op == "read" { &mut self.failing_reads } else { &mut self.failing_writes };
        match failing.get_mut(path) {
            Some((errno, times)) if *times > 0 => {
                *times -= 1;
                Err(error(op, path, value, *errno))
            }
            _ => Ok(()),
        }
    }
}

fn error(op: &'static str, path: &Path, value: Option<&str>, errno: Errno) -> FileError {
    let source = io::Error::from_raw_os_error(errno as i32);
    FileError { op, path: path.to_owned(), value: value.map(str::to_owned), source }
}

/// The real adapter refuses such paths, so a test that asks for one has found a defect in the code under test.
fn checked(path: &Path) -> &Path {
    let plain = path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0);
    assert!(plain, "path {} is not plain and absolute", path.display());
    path
}

impl HostFiles for FakeHost {
    fn read(&self, path: &Path) -> Result<Option<String>, FileError> {
        let mut node = self.node();
        node.fails("read", checked(path), None)?;
        if node.modes.get(path).is_some_and(|mode| !mode.readable) {
            return Err(error("read", path, None, Errno::EACCES));
        }
        Ok(node.contents.get(path).cloned())
    }

    fn write(&self, path: &Path, value: &str) -> Result<(), FileError> {
        let mut node = self.node();
        node.attempts += 1;
        node.fails("write", checked(path), Some(value))?;
        if !node.contents.contains_key(path) {
            return Err(error("write", path, Some(value), Errno::ENOENT));
        }
        if node.modes.get(path).is_some_and(|mode| !mode.may_write) {
            return Err(error("write", path, Some(value), Errno::EACCES));
        }
        node.kernel_write(path, value).map_err(|errno| error("write", path, Some(value), errno))?;
        node.changes.push(Change::Write(path.to_owned(), value.to_owned()));
        Ok(())
    }

    fn replace(&self, path: &Path, content: &str) -> Result<(), FileError> {
        let mut node = self.node();
        node.attempts += 1;
        node.fails("replace", checked(path), None)?;
        node.make_parents(path);
        node.contents.insert(path.to_owned(), content.to_owned());
        node.changes.push(Change::Replace(path.to_owned(), content.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        let mut node = self.node();
        node.attempts += 1;
        node.fails("remove", checked(path), None)?;
        if node.contents.remove(path).is_some() {
            node.changes.push(Change::Remove(path.to_owned()));
        }
        Ok(())
    }

    /// A replace here is never cut short.
    fn discard_unfinished(&self, path: &Path) -> Result<(), FileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.node().contents.remove(&checked(path).with_file_name(format!(".{name}.trimtab-new")));
        Ok(())
    }

    fn list(&self, directory: &Path) -> Result<Option<Vec<Entry>>, FileError> {
        let mut node = self.node();
        node.fails("read", checked(directory), None)?;
        if !node.directories.contains(directory) {
            return Ok(None);
        }
        let child = |path: &PathBuf| {
            let name = path.parent().filter(|&parent| parent == directory).and_then(|_| path.file_name());
            name.map(|name| name.to_string_lossy().into_owned())
        };
        let files = node.contents.keys().chain(node.links.keys()).filter_map(child);
        let files = files.map(|name| Entry { name, is_directory: false });
        let directories = node.directories.iter().filter_map(child).map(|name| Entry { name, is_directory: true });
        let entries: BTreeSet<Entry> = files.chain(directories).collect();
        Ok(Some(entries.into_iter().collect()))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        Ok(self.node().links.get(checked(path)).cloned())
    }

    fn inode(&self, path: &Path) -> Result<Option<u64>, FileError> {
        let node = self.node();
        Ok(node.births.get(checked(path)).filter(|_| node.directories.contains(path)).copied())
    }

    fn mode(&self, path: &Path) -> Result<Option<Mode>, FileError> {
        let node = self.node();
        let usual = Mode { readable: true, writable: true, may_write: true };
        let mode = node.modes.get(checked(path)).copied().unwrap_or(usual);
        let known = node.contents.contains_key(path) || node.directories.contains(path);
        Ok(known.then_some(mode))
    }
}
