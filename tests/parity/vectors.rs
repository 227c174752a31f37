//! Finds the files of recorded cases and reads them line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use flate2::read::GzDecoder;

use crate::category::{self, Judge};
use crate::ipmasq;
use crate::machine::Machines;

/// Files that hold no cases.
const NO_CASES: [&str; 4] = ["summary.json", "timings.json", "machines.json", "README.md"];

/// One recorded case, not yet parsed.
pub(crate) struct Case {
    pub(crate) category: String,
    pub(crate) judge: Judge,
    /// Where it stands, for cases without an id.
    pub(crate) place: String,
    pub(crate) text: String,
    pub(crate) machines: Arc<Machines>,
}

/// Everything found in the directories.
#[derive(Default)]
pub(crate) struct Vectors {
    pub(crate) cases: Vec<Case>,
    /// Categories that have a file.
    pub(crate) categories: BTreeSet<String>,
    /// Cases that record what is not to be copied, by category.
    pub(crate) defects: BTreeMap<String, usize>,
    /// Files of no known category.
    pub(crate) problems: Vec<String>,
}

impl Vectors {
    pub(crate) fn read(directories: &[PathBuf]) -> anyhow::Result<Self> {
        let mut vectors = Self::default();
        for directory in directories {
            vectors.read_directory(directory, &Arc::new(Machines::default()))?;
        }
        Ok(vectors)
    }

    /// Keeps the named categories; all if none is named.
    pub(crate) fn narrowed(mut self, only: &[String]) -> Self {
        if !only.is_empty() {
            self.cases.retain(|case| only.contains(&case.category));
            self.categories.retain(|category| only.contains(category));
            self.defects.retain(|category, _| only.contains(category));
        }
        self
    }

    fn read_directory(&mut self, directory: &Path, above: &Arc<Machines>) -> anyhow::Result<()> {
        let machines =
            match ["machines.json", "machines.json.gz"].map(|n| directory.join(n)).iter().find(|p| p.exists()) {
                Some(path) => Arc::new(Machines::parse(&read_text(path)?).with_context(|| path.display().to_string())?),
                None => Arc::clone(above),
            };
        for path in listed(directory)? {
            if !path.is_dir() {
                self.read_file(&path, &machines)?;
            } else if path.file_name().is_some_and(|n| n == "files") {
                self.read_state_files(&path)?;
            } else {
                self.read_directory(&path, &machines)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path, machines: &Arc<Machines>) -> anyhow::Result<()> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        if NO_CASES.contains(&plain) || plain.ends_with(".md") {
            return Ok(());
        }
        let category = plain.strip_suffix(".jsonl").unwrap_or(plain);
        let Some(judge) = category::judge(category).filter(|_| plain.ends_with(".jsonl")) else {
            self.problems.push(format!("{}: no known category", path.display()));
            return Ok(());
        };
        self.categories.insert(category.to_owned());
        for (number, line) in read_text(path)?.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            if category == "ipmasq" && ipmasq::is_defect(line) {
                *self.defects.entry(category.to_owned()).or_default() += 1;
                continue;
            }
            self.cases.push(Case {
                category: category.to_owned(),
                judge,
                place: format!("{}:{}", path.display(), number + 1),
                text: line.to_owned(),
                machines: Arc::clone(machines),
            });
        }
        Ok(())
    }

    /// State files as the kubelet left them: each is a case of the category `files`.
    fn read_state_files(&mut self, directory: &Path) -> anyhow::Result<()> {
        self.categories.insert("files".to_owned());
        for path in listed(directory)? {
            if path.is_dir() {
                self.read_state_files(&path)?;
                continue;
            }
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let name = name.strip_suffix(".gz").unwrap_or(&name);
            let Some(judge) = category::judge("files").filter(|_| !name.ends_with(".md")) else { continue };
            let body = BTreeMap::from([("file", name.to_owned()), ("bytes", read_text(&path)?)]);
            self.cases.push(Case {
                category: "files".to_owned(),
                judge,
                place: path.display().to_string(),
                text: serde_json::to_string(&body)?,
                machines: Arc::default(),
            });
        }
        Ok(())
    }
}

/// What is in a directory, sorted; hidden entries are left out.
fn listed(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let read = if path.extension().is_some_and(|e| e == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)
    } else {
        { file }.read_to_string(&mut text)
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
