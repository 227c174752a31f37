//! The machines on which the cases were recorded.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

/// Machines by name; names are local to one directory of vectors.
#[derive(Default)]
pub(crate) struct Machines(BTreeMap<String, Recorded>);

#[derive(Deserialize)]
struct File {
    machines: Vec<Recorded>,
}

/// One machine as recorded.
#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    name: String,
    pub(crate) cpus: Vec<RecordedCpu>,
    pub(crate) numa_nodes: Vec<RecordedNode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RecordedCpu {
    pub(crate) cpu: u32,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RecordedNode {
    pub(crate) id: u32,
}

impl Machines {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = serde_json::from_str(text).context("not a list of machines")?;
        Ok(Self(file.machines.into_iter().map(|m| (m.name.clone(), m)).collect()))
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Recorded> {
        self.0.get(name)
    }
}
