//! The ConfigMaps of the masquerade agents, followed by name while the profile in force asks for them.
//!
//! They become files, as the kubelet would have mounted them, so that they are read, merged, refused and kept by the same
//! code as mounted ones. With the API server away the files stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource};

use super::Pace;
use super::follow::{Following, Seen, follow};
use crate::adapters::api_server::{ApiServer, CONFIG_MAPS, Form};
use crate::ports::config_maps::ConfigMapFiles;
use crate::reconcile::engine::SpecInForce;

/// Where both agents have their ConfigMaps.
const NAMESPACE: &str = "kube-system";
/// Azure's: the customer's, then the provider's, whose keys win where both have one, as in the agent's own volume.
const AZURE: &[&str] = &["azure-ip-masq-agent-config", "azure-ip-masq-agent-config-reconciled"];
/// kubernetes-sigs'.
const KUBERNETES_SIGS: &[&str] = &["ip-masq-agent"];
/// The key that kubernetes-sigs' DaemonSet mounts, and under which name.
const SIGS_KEY: (&str, &str) = ("config", "ip-masq-agent");
/// Pause after files could not be written.
const AGAIN: Duration = Duration::from_secs(30);

/// Entries of a ConfigMap, of `data` and of `binaryData`, which have no key in common: the kubelet makes files of both.
type Entries = BTreeMap<String, Vec<u8>>;

/// The follower.
pub(super) struct ConfigMaps {
    pub(super) api: ApiServer,
    pub(super) pace: Pace,
    pub(super) spec: watch::Receiver<Option<SpecInForce>>,
    pub(super) files: Arc<dyn ConfigMapFiles>,
}

impl ConfigMaps {
    /// Follows for ever; nothing is asked while no profile asks for it.
    pub(super) async fn keep(mut self) {
        loop {
            let wanted = wanted(&self.spec.borrow_and_update());
            // Dropped with what it follows as soon as something else is wanted.
            let mut following = JoinSet::new();
            if let Some((agent, directory)) = wanted.clone() {
                let maps = names(agent).iter().map(|name| self.follow_one(name, &mut following)).collect();
                following.spawn(mirror(agent, directory, maps, Arc::clone(&self.files)));
            }
            while self::wanted(&self.spec.borrow_and_update()) == wanted {
                if self.spec.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    fn follow_one(&self, name: &str, tasks: &mut JoinSet<()>) -> watch::Receiver<Seen<Entries>> {
        let (out, seen) = watch::channel(Seen::Unknown);
        let what = Following {
            collection: CONFIG_MAPS,
            namespace: Some(NAMESPACE.to_owned()),
            only: Some(name.to_owned()),
            form: Form::Whole,
            pace: self.pace,
        };
        tasks.spawn(follow(self.api.clone(), what, shape, out));
        seen
    }
}

const fn names(agent: Compat) -> &'static [&'static str] {
    match agent {
        Compat::Azure => AZURE,
        Compat::KubernetesSigs => KUBERNETES_SIGS,
    }
}

/// Whose ConfigMaps, and the directory of their files.
fn wanted(spec: &Option<SpecInForce>) -> Option<(Compat, PathBuf)> {
    let source = spec.as_ref()?.spec.ip_masq.as_ref()?.config.as_ref()?;
    let agent = source.config_maps()?;
    let directory = match source {
        ConfigSource::File(path) => path.parent()?.to_owned(),
        ConfigSource::Directory(path) => path.clone(),
    };
    Some((agent, directory))
}

fn shape(mut object: Value) -> Option<(String, Entries)> {
    let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
    let mut entries = Entries::new();
    for (field, decode) in [("binaryData", decoded as fn(String) -> Vec<u8>), ("data", String::into_bytes)] {
        let Some(Value::Object(pairs)) = object.get_mut(field).map(Value::take) else { continue };
        for (key, value) in pairs {
            if let Value::String(text) = value {
                entries.insert(key, decode(text));
            }
        }
    }
    Some((name, entries))
}

/// What base64 stands for. What is none, which no API server sends, stays as it is: left out, it would mean the defaults.
fn decoded(text: String) -> Vec<u8> {
    serde_json::from_value(Value::String(text.clone())).map_or_else(|_| text.into_bytes(), |ByteString(bytes)| bytes)
}

/// Lays the files down whenever a map has changed, once all are known: half of a configuration would be another one.
async fn mirror(
    agent: Compat,
    directory: PathBuf,
    mut maps: Vec<watch::Receiver<Seen<Entries>>>,
    files: Arc<dyn ConfigMapFiles>,
) {
    loop {
        let seen: Vec<Seen<Entries>> = maps.iter_mut().map(|map| map.borrow_and_update().clone()).collect();
        let is_written = match as_files(agent, &seen) {
            Some(wanted) => write(&*files, &directory, &wanted),
            None => true,
        };
        let mut changes = JoinSet::new();
        for map in &maps {
            let mut map = map.clone();
            changes.spawn(async move { map.changed().await.is_ok() });
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN), if !is_written => {}
            Some(ended) = changes.join_next() => if !ended.unwrap_or_default() { return },
        }
    }
}

fn write(files: &dyn ConfigMapFiles, directory: &Path, wanted: &BTreeMap<String, Vec<u8>>) -> bool {
    match files.write(directory, wanted) {
        Ok(()) => true,
        Err(error) => {
            let error = anyhow::Error::from(error);
            warn!(error = format!("{error:#}"), "the ConfigMaps of the masquerade agent cannot be laid down");
            false
        }
    }
}

/// The files of the maps; `None` while one of them is not known.
fn as_files(agent: Compat, maps: &[Seen<Entries>]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for map in maps {
        let Seen::All(objects) = map else { return None };
        // At most one: it was asked for by name.
        for (key, content) in objects.values().flatten() {
            let name = match agent {
                Compat::Azure => Some(key.as_str()),
                Compat::KubernetesSigs => (key == SIGS_KEY.0).then_some(SIGS_KEY.1),
            };
            files.extend(name.map(|name| (name.to_owned(), content.clone())));
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(name: &str, entries: &[(&str, &str)]) -> Seen<Entries> {
        let entries = entries.iter().map(|(key, text)| ((*key).to_owned(), text.as_bytes().to_vec())).collect();
        Seen::All([(name.to_owned(), entries)].into())
    }

    fn shown(agent: Compat, maps: &[Seen<Entries>]) -> Option<Vec<(String, String)>> {
        let text = |(name, bytes): (String, Vec<u8>)| (name, String::from_utf8_lossy(&bytes).into_owned());
        Some(as_files(agent, maps)?.into_iter().map(text).collect())
    }

    fn files(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn both_kinds_of_entries_are_files_as_the_kubelet_makes_them() {
        let object = json!({"metadata": {"name": "m"}, "data": {"a": "YQ=="}, "binaryData": {
            "b": "YmluYXJ5IP8=", "empty": "", "none": "***", "number": 7,
        }});
        let (name, entries) = shape(object).unwrap();
        let expected: [(&str, &[u8]); 4] = [("a", b"YQ=="), ("b", b"binary \xff"), ("empty", b""), ("none", b"***")];
        assert_eq!(name, "m");
        assert_eq!(entries, Entries::from(expected.map(|(key, bytes)| (key.to_owned(), bytes.to_vec()))));
        for bare in [json!({"metadata": {"name": "m"}}), json!({"metadata": {"name": "m"}, "binaryData": null})] {
            assert_eq!(shape(bare), Some(("m".to_owned(), Entries::new())));
        }
    }

    #[test]
    fn maps_become_the_files_that_the_agents_mount() {
        let none = || Seen::All(BTreeMap::new());
        let customer = || map("a", &[("ip-masq-agent", "1"), ("both", "1")]);
        let provider = || map("b", &[("ip-masq-agent-reconciled", "2"), ("both", "2")]);
        let all = files(&[("both", "2"), ("ip-masq-agent", "1"), ("ip-masq-agent-reconciled", "2")]);
        let (azure, sigs) = (Compat::Azure, Compat::KubernetesSigs);
        assert_eq!(shown(azure, &[customer(), provider()]), all);
        assert_eq!(shown(azure, &[none(), map("b", &[("x", "2")])]), files(&[("x", "2")]));
        assert_eq!(shown(azure, &[none(), none()]), files(&[]));
        assert_eq!(shown(azure, &[customer(), Seen::Unknown]), None, "half of it is not known");
        assert_eq!(shown(sigs, &[map("c", &[("config", "1"), ("other", "2")])]), files(&[("ip-masq-agent", "1")]));
    }
}
