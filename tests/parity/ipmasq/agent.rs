//! The agent under test: the subsystem on the real iptables, told what to do by a recorded command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use trimtab::adapters::iptables::Iptables;
use trimtab::adapters::masq_files::MasqFiles;
use trimtab::ports::{Ledger, LedgerError};
use trimtab::profile::ip_masq_agent::flags::{self, FlagError};
use trimtab::reconcile::pass::{self, Outcome};
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::Backend;
use trimtab_domain::record::{LedgerChange, Record};
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::{BackendWish, Compat, ConfigSource};

use super::kernel::{Files, Tools};

/// One agent, or the reason why it would not start.
pub(super) struct Agent {
    subsystem: Masquerade<Iptables, Memory>,
    wish: Result<IpMasqSpec, FlagError>,
    _state: tempfile::TempDir,
}

impl Agent {
    pub(super) fn start(name: &Value, arguments: &Value, (files, tools, backend): (&Files, &Tools, Backend)) -> Self {
        let compat = if name == "azure-v2" { Compat::Azure } else { Compat::KubernetesSigs };
        let arguments = arguments.as_array().into_iter().flatten().filter_map(Value::as_str);
        let arguments: Vec<String> = arguments.map(str::to_owned).collect();
        let wish = flags::parse(compat, &arguments).map(|spec| IpMasqSpec {
            backend: match backend {
                Backend::Nft => BackendWish::Auto,
                Backend::Legacy => BackendWish::IptablesLegacy,
                Backend::Native => BackendWish::Nftables,
            },
            config: spec.config.map(|source| in_place(&source, files.directory())),
            ..spec
        });
        let state = tempfile::tempdir().expect("a folder");
        let masq_files = MasqFiles::new(state.path());
        let iptables = Iptables::new(tools.search_path());
        let subsystem = Masquerade::new(Arc::new(iptables), Arc::new(Memory::default()), Arc::new(masq_files));
        Self { subsystem, wish, _state: state }
    }

    /// One pass; what was complained of.
    pub(super) async fn pass(&mut self) -> Vec<String> {
        let spec = match &self.wish {
            Ok(spec) => spec.clone(),
            Err(error) => return vec![error.to_string()],
        };
        let Outcome { refusals, failures, .. } =
            pass::run(&self.subsystem, &Some(spec), |_| false, &CancellationToken::new()).await;
        let failures = failures.into_iter().map(|failure| failure.text);
        refusals.into_iter().map(|refusal| refusal.detail).chain(failures).collect()
    }

    /// The end of an agent: it makes no more passes.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The same file or directory, below the folder of the case.
fn in_place(source: &ConfigSource, directory: &Path) -> ConfigSource {
    match source {
        ConfigSource::File(path) => ConfigSource::File(directory.join(path.file_name().unwrap_or_default())),
        ConfigSource::Directory(_) => ConfigSource::Directory(directory.to_owned()),
    }
}

/// A ledger that ends with its agent.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Record>>);

impl Ledger for Memory {
    fn records(&self, _: &str) -> Vec<Record> {
        self.0.lock().expect("one thread").values().cloned().collect()
    }

    fn commit(&self, _: &str, changes: &[LedgerChange]) -> Result<(), LedgerError> {
        let mut records = self.0.lock().expect("one thread");
        for change in changes {
            match change {
                LedgerChange::Promise(record) => drop(records.insert(record.object.clone(), record.clone())),
                LedgerChange::Forget { object } => drop(records.remove(object)),
            }
        }
        Ok(())
    }
}
