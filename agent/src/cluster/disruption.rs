//! The disruption budget of the cluster: as many places as nodes may be away at a time, each a Lease object.
//!
//! Whatever disrupts a node first takes a place (`trimtab-disruption-0` and so on, in the agent's namespace) and renews it
//! until it is done. Places are taken by create and by replace with a resource version, so of two only one succeeds; one that
//! nobody renews is taken over after it has been seen unchanged for as long as it lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use trimtab_domain::disruption::{Place, Turn, turn};

use super::clock::written_now_micro;
use crate::adapters::api_server::{ApiError, ApiServer, Form, LEASES};

/// Name of a place, before its number.
const NAME: &str = "trimtab-disruption-";
/// Label of all places.
const LABEL: (&str, &str) = ("trimtab.dev/budget", "disruption");
/// What the holder does, for a person.
const REASON: &str = "trimtab.dev/disruption";
/// A place is renewed once its last renewal is so old.
const RENEW: Duration = Duration::from_secs(30);
/// How often a place is given back before the caller has to ask again: once for each, and once for each conflict.
const TRIES: usize = 8;

/// The budget as one node sees it.
pub struct Budget {
    api: ApiServer,
    namespace: String,
    node: String,
    /// How long a place lasts without its holder: longer than any disruption goes on without the API server.
    lasts: Duration,
    reason: &'static str,
    /// Places by number, as they were last read.
    seen: BTreeMap<usize, Seen>,
    renewed: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Seen {
    version: String,
    holder: String,
    lasts: Duration,
    transitions: u64,
    since: Instant,
}

impl Budget {
    /// The budget in a namespace; `reason` says in the place what is done, `lasts` for how long it is kept for a node that
    /// does not renew it.
    #[must_use]
    pub fn new(api: ApiServer, namespace: String, node: String, reason: &'static str, lasts: Duration) -> Self {
        Self { api, namespace, node, lasts, reason, seen: BTreeMap::new(), renewed: None }
    }

    /// Sets how long a place is kept from its next renewal on.
    pub fn set_duration(&mut self, lasts: Duration) {
        self.lasts = lasts;
    }

    /// What this node may do, of so many places. One request, and one more now and then if it holds a place.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn look(&mut self, most: u32) -> Result<Turn, ApiError> {
        self.read().await?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let turn = turn(&self.places(most), &self.node);
        if let Turn::Holds(number) = turn
            && self.renewed.is_none_or(|at| at.elapsed() >= RENEW)
            && !self.write(number).await?
        {
            // Somebody has taken it over in this moment.
            self.read().await?;
            return Ok(trimtab_domain::disruption::turn(&self.places(most), &self.node));
        }
        Ok(turn)
    }

    /// Tries to take a place that [`Self::look`] has named; false: somebody else was faster.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn take(&mut self, number: usize) -> Result<bool, ApiError> {
        self.write(number).await
    }

    /// Gives back every place that this node holds.
    ///
    /// # Errors
    /// [`ApiError`]; the places that are left are given back by the next call, or run out.
    pub async fn give_back(&mut self) -> Result<(), ApiError> {
        let mut faster = None;
        for _ in 0..TRIES {
            self.read().await?;
            let own = self.seen.iter().find(|(_, seen)| seen.holder == self.node);
            let Some((number, seen)) = own.map(|(number, seen)| (*number, seen.clone())) else {
                self.renewed = None;
                return Ok(());
            };
            let object = self.object(number, "", Some(&seen));
            match self.api.replace(&LEASES.namespaced(&self.namespace, &name(number)), &object).await {
                Ok(_) => {}
                // It may have been taken over, which the next look shows.
                Err(error @ (ApiError::Conflict { .. } | ApiError::Absent { .. })) => faster = Some(error),
                Err(error) => return Err(error),
            }
        }
        faster.map_or(Ok(()), Err)
    }

    async fn read(&mut self) -> Result<(), ApiError> {
        let path = format!("{}?labelSelector={}%3D{}", LEASES.of_namespace(&self.namespace), LABEL.0, LABEL.1);
        let list = self.api.list(&path, Form::Whole).await?;
        let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let found: BTreeMap<usize, Seen> = items.iter().filter_map(shape).collect();
        self.seen.retain(|number, _| found.contains_key(number));
        for (number, mut now) in found {
            if let Some(known) = self.seen.get(&number).filter(|known| known.version == now.version) {
                now.since = known.since;
            }
            self.seen.insert(number, now);
        }
        Ok(())
    }

    fn places(&self, most: usize) -> Vec<Place> {
        let place = |number: usize| match self.seen.get(&number) {
            Some(seen) => Place { holder: seen.holder.clone(), unchanged: seen.since.elapsed(), lasts: seen.lasts },
            None => Place::default(),
        };
        (0..most).map(place).collect()
    }

    /// Takes or renews a place; false: somebody else was faster.
    async fn write(&mut self, number: usize) -> Result<bool, ApiError> {
        let seen = self.seen.get(&number);
        let object = self.object(number, &self.node, seen);
        let written = match seen {
            Some(_) => self.api.replace(&LEASES.namespaced(&self.namespace, &name(number)), &object).await,
            None => self.api.create(&LEASES.of_namespace(&self.namespace), &object).await,
        };
        match written {
            Ok(object) => {
                self.seen.extend(shape(&object));
                self.renewed = Some(Instant::now());
                Ok(true)
            }
            Err(ApiError::Conflict { .. }) => Ok(false),
            // Deleted since it was read: the next look finds it free.
            Err(ApiError::Absent { .. }) if seen.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn object(&self, number: usize, holder: &str, seen: Option<&Seen>) -> Value {
        let now = written_now_micro();
        let moved = seen.is_some_and(|seen| seen.holder != holder);
        let transitions = seen.map_or(0, |seen| seen.transitions + u64::from(moved));
        let mut metadata = json!({
            "name": name(number), "namespace": self.namespace, "labels": {LABEL.0: LABEL.1},
            "annotations": {REASON: if holder.is_empty() { "" } else { self.reason }},
        });
        if let (Some(seen), Some(map)) = (seen, metadata.as_object_mut()) {
            map.insert("resourceVersion".into(), seen.version.clone().into());
        }
        json!({
            "apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata,
            "spec": {
                "holderIdentity": holder, "leaseDurationSeconds": self.lasts.as_secs().max(1), "renewTime": now,
                "acquireTime": now, "leaseTransitions": transitions,
            },
        })
    }
}

fn name(number: usize) -> String {
    format!("{NAME}{number}")
}

/// A place and its number; what is not one of ours is left out.
fn shape(object: &Value) -> Option<(usize, Seen)> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let number = text("/metadata/name")?.strip_prefix(NAME)?.parse().ok()?;
    let count = |path: &str| object.pointer(path).and_then(Value::as_u64);
    let seen = Seen {
        version: text("/metadata/resourceVersion")?.to_owned(),
        holder: text("/spec/holderIdentity").unwrap_or_default().to_owned(),
        lasts: Duration::from_secs(count("/spec/leaseDurationSeconds").unwrap_or(0)),
        transitions: count("/spec/leaseTransitions").unwrap_or(0),
        since: Instant::now(),
    };
    Some((number, seen))
}
