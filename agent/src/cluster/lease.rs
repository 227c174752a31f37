//! A Lease that one agent of the cluster holds at a time.
//!
//! Whether another holder is gone is judged by whether its renewals are seen to go on, by this node's own steady clock, and
//! never by the times in the object: clocks of nodes differ. Who was faster is decided by the resource version.

use std::time::Duration;

use serde_json::{Value, json};

use super::clock::written_now_micro;
use crate::adapters::api_server::{ApiError, ApiServer, Form, LEASES};

/// A Lease, and the name under which this agent would hold it.
pub(super) struct Lease {
    pub(super) api: ApiServer,
    pub(super) name: &'static str,
    pub(super) holder: String,
    /// A holder that has not renewed for so long is gone.
    pub(super) length: Duration,
}

/// What a look at the Lease has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Look {
    /// This agent may take it: nobody has it, or this agent itself did before a restart.
    Free(Value),
    /// Somebody else holds it; the text changes with each renewal.
    Held(String, Value),
}

impl Lease {
    /// Takes a look.
    pub(super) async fn look(&self) -> Result<Look, ApiError> {
        let live = match self.api.read(&self.path(), Form::Whole).await? {
            Some(live) => live,
            None => return Ok(Look::Free(Value::Null)),
        };
        let text = |field: &str| live.pointer(&format!("/spec/{field}")).and_then(Value::as_str).unwrap_or_default();
        let holder = text("holderIdentity").to_owned();
        if holder.is_empty() || holder == self.holder {
            return Ok(Look::Free(live));
        }
        let renewal = format!("{holder} {}", text("renewTime"));
        Ok(Look::Held(renewal, live))
    }

    /// Takes it, or renews it, if it still is as this object says (null: not there).
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if somebody was faster.
    pub(super) async fn take(&self, live: &Value) -> Result<Value, ApiError> {
        let now = written_now_micro();
        let last = |field: &str| live.pointer(&format!("/spec/{field}")).cloned().unwrap_or_default();
        let is_own = last("holderIdentity") == self.holder.as_str();
        let transitions = last("leaseTransitions").as_u64().unwrap_or_default();
        let mut object = json!({
            "apiVersion": LEASES.api_version, "kind": LEASES.kind,
            "metadata": {"name": self.name, "namespace": self.api.namespace()},
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": self.length.as_secs(),
                "acquireTime": if is_own { last("acquireTime") } else { now.clone().into() },
                "renewTime": now,
                "leaseTransitions": if is_own || live.is_null() { transitions } else { transitions + 1 },
            },
        });
        if live.is_null() {
            return self.api.create(&LEASES.of_namespace(self.api.namespace()), &object).await;
        }
        if let (Some(metadata), Some(known)) = (object.get_mut("metadata"), live.get("metadata")) {
            *metadata = known.clone();
        }
        self.api.replace(&self.path(), &object).await
    }

    fn path(&self) -> String {
        LEASES.namespaced(self.api.namespace(), self.name)
    }
}
