//! Pods of recorded scenarios, in the shape of the Kubernetes API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use trimtab_domain::quantity::Quantity;
use trimtab_domain::workload::{Container, ContainerKind, Labels, Pod, PodUid, QosClass, ResourceName, Resources};

#[derive(Deserialize)]
pub(super) struct RecordedPod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    init_containers: Vec<RecordedContainer>,
    containers: Vec<RecordedContainer>,
    resources: Option<RecordedResources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedContainer {
    name: String,
    restart_policy: Option<String>,
    #[serde(default)]
    resources: RecordedResources,
}

#[derive(Deserialize, Default)]
struct RecordedResources {
    #[serde(default)]
    requests: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<String, String>,
}

impl RecordedPod {
    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn build(self) -> Result<Arc<Pod>, String> {
        let mut containers = Vec::new();
        for recorded in self.spec.init_containers {
            let always = recorded.restart_policy.as_deref() == Some("Always");
            containers.push(recorded.build(if always { ContainerKind::Sidecar } else { ContainerKind::Init })?);
        }
        for recorded in self.spec.containers {
            containers.push(recorded.build(ContainerKind::App)?);
        }
        let resources = self.spec.resources.map(RecordedResources::build).transpose()?;
        Ok(Arc::new(Pod {
            uid: PodUid(self.metadata.uid),
            namespace: "default".to_owned(),
            name: self.metadata.name,
            qos: QosClass::of(&containers, resources.as_ref()),
            containers,
            resources,
            annotations: Labels::default(),
        }))
    }
}

impl RecordedContainer {
    fn build(self, kind: ContainerKind) -> Result<Container, String> {
        Ok(Container { name: self.name, kind, resources: self.resources.build()? })
    }
}

impl RecordedResources {
    fn build(self) -> Result<Resources, String> {
        let parse = |map: BTreeMap<String, String>| {
            let quantity = |(name, text): (String, String)| {
                let quantity = Quantity::parse(&text).map_err(|error| format!("{text}: {error}"))?;
                Ok((ResourceName::from(name.as_str()), quantity))
            };
            map.into_iter().map(quantity).collect::<Result<BTreeMap<_, _>, String>>()
        };
        Ok(Resources { requests: parse(self.requests)?, limits: parse(self.limits)? })
    }
}
