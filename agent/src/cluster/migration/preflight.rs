//! What must be so before a node is touched, each with its remedy.

use std::time::Duration;

use serde_json::{Value, json};
use trimtab_domain::cgroup::Component;

use super::drain::forbidden;
use super::{Migration, OwnPod, Places, Wish, rules};
use crate::ports::services::Activity;

/// Group, resource, subresource, verb.
type Right = (&'static str, &'static str, &'static str, &'static str);

/// What is asked of the API server; a test compares it with `deploy/components/migration`.
const RIGHTS: [Right; 7] = [
    ("", "nodes", "", "list"),
    ("", "nodes", "", "patch"),
    ("", "pods", "", "list"),
    ("", "pods", "eviction", "create"),
    ("coordination.k8s.io", "leases", "", "list"),
    ("coordination.k8s.io", "leases", "", "create"),
    ("coordination.k8s.io", "leases", "", "update"),
];
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// For the trial of systemd's timers.
const FAR: Duration = Duration::from_secs(3600);

impl Migration {
    /// Looks at everything that a migration needs and changes nothing but a timer, which it takes back.
    ///
    /// # Errors
    /// What is missing, for a person.
    pub(super) async fn preflight(&self, places: &Places, wish: &Wish) -> Result<(), String> {
        if self.ports.own == OwnPod::Unknown {
            return Err(
                "the agent does not know its own pod, and would stop itself; set POD_NAME and POD_NAMESPACE as \
                        deploy/components/migration does"
                    .to_owned(),
            );
        }
        self.ports.files.check(places, wish.target).map_err(|error| error.to_string())?;
        self.check_runtime(places).await?;
        self.check_units(places).await?;
        let ready = self.ports.sandboxes.ready().await;
        ready.map_err(|error| format!("{error}; what a drain leaves could not be removed"))?;
        self.check_rights().await?;
        let pods = self.pods().await.map_err(|error| error.to_string())?;
        forbidden(&pods, rules(&wish.spec)).map_or(Ok(()), Err)
    }

    /// Files of one runtime may lie on a node of the other.
    async fn check_runtime(&self, places: &Places) -> Result<(), String> {
        let told = self.ports.runtime.cgroup_drivers().await.map_err(|error| error.to_string())?;
        let is_meant = |component: &Component| match component {
            Component::Containerd { .. } => places.handlers.is_some(),
            Component::CriO => places.handlers.is_none(),
            Component::Kubelet | Component::Docker => false,
        };
        match told.first() {
            Some(other) if !told.iter().any(|one| is_meant(&one.component)) => Err(format!(
                "what answers on the CRI socket is {}, and {} is not its configuration; name its unit in \
                 cgroup.migration.runtimeUnit",
                other.component.describe(),
                places.runtime_config.display()
            )),
            // An older one does not say what it is.
            _ => Ok(()),
        }
    }

    async fn check_units(&self, places: &Places) -> Result<(), String> {
        for (unit, key) in [(&places.kubelet_unit, "kubeletUnit"), (&places.runtime_unit, "runtimeUnit")] {
            let state = self.ports.services.state(unit).await.map_err(|error| error.to_string())?;
            if state.activity != Activity::Active {
                return Err(format!("unit {unit} is not active; name the unit in cgroup.migration.{key}, or start it"));
            }
            // The same right as for stopping and starting, and the way back should the agent die.
            let tried = self.ports.services.start_later(unit, FAR).await;
            tried.map_err(|error| format!("{error}; the agent needs SYS_ADMIN and systemd's socket"))?;
            self.ports.services.forget_start(unit).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn check_rights(&self) -> Result<(), String> {
        let mut missing = Vec::new();
        for (group, resource, subresource, verb) in RIGHTS {
            let namespace = if resource == "leases" { self.ports.namespace.as_str() } else { "" };
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {
                    "group": group, "resource": resource, "subresource": subresource, "verb": verb,
                    "namespace": namespace,
                }},
            });
            let answer = self.api.create(REVIEWS, &review).await.map_err(|error| error.to_string())?;
            if answer.pointer("/status/allowed").and_then(Value::as_bool) != Some(true) {
                let slash = if subresource.is_empty() { "" } else { "/" };
                missing.push(format!("{verb} {resource}{slash}{subresource}"));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("the agent may not {}; deploy deploy/components/migration", missing.join(", ")))
    }
}
