//! The objects, their versions and their history.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::apply::{self, Owners};
use super::path::Place;
use super::status::Refused;

/// Events that are remembered for watches that begin in the past.
const HISTORY: usize = 10_000;

/// A change, as a watch tells it.
#[derive(Debug, Clone)]
pub(super) struct StoreEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(super) what: &'static str,
    pub(super) group: String,
    pub(super) plural: String,
    pub(super) version: u64,
    pub(super) object: Value,
    /// The object before; null for a new one.
    pub(super) before: Value,
}

#[derive(Debug, Clone)]
struct Stored {
    object: Value,
    owners: Owners,
}

#[derive(Debug, Clone)]
struct Kind {
    version: String,
    kind: String,
}

type Key = (String, String, String, String);

/// All of them.
pub(super) struct Store {
    kinds: BTreeMap<(String, String), Kind>,
    objects: BTreeMap<Key, Stored>,
    version: u64,
    /// Watches from before this version are refused.
    oldest: u64,
    history: VecDeque<StoreEvent>,
    made: u64,
}

fn key(place: &Place) -> Key {
    (place.group.clone(), place.plural.clone(), place.namespace.clone(), place.name.clone())
}

impl Store {
    pub(super) fn new() -> Self {
        let mut store = Self {
            kinds: BTreeMap::new(),
            objects: BTreeMap::new(),
            version: 1000,
            oldest: 0,
            history: VecDeque::new(),
            made: 0,
        };
        for (group, version, plural, kind) in [
            ("", "v1", "nodes", "Node"),
            ("", "v1", "pods", "Pod"),
            ("", "v1", "events", "Event"),
            ("", "v1", "configmaps", "ConfigMap"),
            ("events.k8s.io", "v1", "events", "Event"),
            ("coordination.k8s.io", "v1", "leases", "Lease"),
            ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
            ("trimtab.dev", "v1alpha1", "nodeprofiles", "NodeProfile"),
            ("trimtab.dev", "v1alpha1", "nodestates", "NodeState"),
            ("topology.node.k8s.io", "v1alpha2", "noderesourcetopologies", "NodeResourceTopology"),
        ] {
            store.add_kind(group, version, plural, kind);
        }
        store
    }

    pub(super) fn add_kind(&mut self, group: &str, version: &str, plural: &str, kind: &str) {
        let known = Kind { version: version.to_owned(), kind: kind.to_owned() };
        self.kinds.insert((group.to_owned(), plural.to_owned()), known);
    }

    pub(super) fn forget_kind(&mut self, group: &str, plural: &str) {
        self.kinds.remove(&(group.to_owned(), plural.to_owned()));
        self.objects.retain(|(g, p, ..), _| g != group || p != plural);
    }

    /// The kind of a resource that is served.
    pub(super) fn kind(&self, place: &Place) -> Option<String> {
        let kind = self.kinds.get(&(place.group.clone(), place.plural.clone()))?;
        (kind.version == place.version).then(|| kind.kind.clone())
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn object(&self, place: &Place) -> Option<&Value> {
        self.objects.get(&key(place)).map(|stored| &stored.object)
    }

    /// Objects of a collection, by namespace and name.
    pub(super) fn list(&self, place: &Place) -> Vec<&Value> {
        let of = |(group, plural, namespace, _): &&Key| {
            *group == place.group
                && *plural == place.plural
                && (place.namespace.is_empty() || *namespace == place.namespace)
        };
        self.objects.iter().filter(|(key, _)| of(key)).map(|(_, stored)| &stored.object).collect()
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.history.clear();
    }

    /// What happened after a version.
    pub(super) fn since(&self, version: u64) -> Result<Vec<StoreEvent>, Refused> {
        if version < self.oldest {
            return Err(Refused::gone(version, self.oldest));
        }
        Ok(self.history.iter().filter(|event| event.version > version).cloned().collect())
    }

    /// Creates or replaces a whole object, status and all, whatever its version.
    pub(super) fn put(&mut self, place: &Place, object: Value, manager: &str) -> Result<StoreEvent, Refused> {
        let mut object = object;
        object["metadata"]["name"] = place.name.clone().into();
        if let Some(before) = self.object(place).cloned() {
            return Ok(self.replace(place, &before, object, manager));
        }
        Ok(self.insert(place, object, manager))
    }

    /// Creates; one of the name must not be there.
    pub(super) fn create(&mut self, place: &Place, object: Value, manager: &str) -> Result<StoreEvent, Refused> {
        if self.object(place).is_some() {
            let message = format!("{} {:?} already exists", place.plural, place.name);
            return Err(Refused::new(409, "AlreadyExists", message));
        }
        Ok(self.insert(place, object, manager))
    }

    fn insert(&mut self, place: &Place, mut object: Value, manager: &str) -> StoreEvent {
        self.made += 1;
        object["apiVersion"] = place.api_version().into();
        object["kind"] = self.kind(place).unwrap_or_default().into();
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("00000000-0000-0000-0000-{:012}", self.made).into();
        }
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        metadata["generation"] = 1.into();
        if !place.namespace.is_empty() {
            metadata["namespace"] = place.namespace.clone().into();
        }
        let mut owners = Owners::default();
        apply::own_changes(&mut owners, manager, &Value::Null, &object);
        self.keep("ADDED", place, (Value::Null, object), owners)
    }

    /// Replaces an object that was `before`; ownership of what changed goes to the manager.
    pub(super) fn replace(&mut self, place: &Place, before: &Value, object: Value, manager: &str) -> StoreEvent {
        let mut owners = self.objects.get(&key(place)).map(|stored| stored.owners.clone()).unwrap_or_default();
        apply::own_changes(&mut owners, manager, before, &object);
        self.replace_owned(place, before, object, owners)
    }

    /// The same with the owners given.
    pub(super) fn replace_owned(
        &mut self,
        place: &Place,
        before: &Value,
        mut object: Value,
        owners: Owners,
    ) -> StoreEvent {
        for field in ["uid", "creationTimestamp", "namespace", "generation"] {
            if let Some(value) = before["metadata"].get(field) {
                object["metadata"][field] = value.clone();
            }
        }
        if object["spec"] != before["spec"] {
            object["metadata"]["generation"] = (before["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
        }
        for field in ["apiVersion", "kind"] {
            object[field] = before[field].clone();
        }
        self.keep("MODIFIED", place, (before.clone(), object), owners)
    }

    pub(super) fn owners(&self, place: &Place) -> Owners {
        self.objects.get(&key(place)).map(|stored| stored.owners.clone()).unwrap_or_default()
    }

    fn keep(&mut self, what: &'static str, place: &Place, change: (Value, Value), owners: Owners) -> StoreEvent {
        let (before, mut object) = change;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["managedFields"] = json!(owners.managers());
        self.objects.insert(key(place), Stored { object: object.clone(), owners });
        self.remember(StoreEvent {
            what,
            group: place.group.clone(),
            plural: place.plural.clone(),
            version: self.version,
            object,
            before,
        })
    }

    pub(super) fn remove(&mut self, place: &Place) -> Option<StoreEvent> {
        let mut object = self.objects.remove(&key(place))?.object;
        self.version += 1;
        let before = object.clone();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let (group, plural) = (place.group.clone(), place.plural.clone());
        Some(self.remember(StoreEvent { what: "DELETED", group, plural, version: self.version, object, before }))
    }

    fn remember(&mut self, event: StoreEvent) -> StoreEvent {
        self.history.push_back(event.clone());
        if self.history.len() > HISTORY
            && let Some(first) = self.history.pop_front()
        {
            self.oldest = first.version;
        }
        event
    }
}
