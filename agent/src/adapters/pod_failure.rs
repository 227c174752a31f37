//! Fails a pod through the status subresource, in the words of a kubelet that refuses it at admission.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};

use super::api_server::{ApiError, ApiServer, Form, PODS, Patch};
use crate::ports::pod_failure::{FailedPod, PodFailure, PodFailureError, PodRef};

/// Marks the image in the API server of a pod from a file (`kubelet/types/pod_update.go`).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Pods of the API server.
pub struct ApiPods {
    api: ApiServer,
}

impl ApiPods {
    /// Fails pods through this connection.
    #[must_use]
    pub fn new(api: ApiServer) -> Self {
        Self { api }
    }

    async fn fail_pod(&self, pod: &PodRef, reason: &str, message: &str) -> Result<FailedPod, PodFailureError> {
        let path = PODS.namespaced(&pod.namespace, &pod.name);
        let found = self.api.read(&path, Form::Whole).await.map_err(|error| sort(pod, &error))?;
        if let Some(why) = why_not(found.as_ref(), pod) {
            return Ok(FailedPod::LeftAlone(why));
        }
        // The uid is a precondition: a pod of the same name that was made meanwhile is another one.
        let change = json!({
            "metadata": {"uid": pod.uid.to_string()},
            "status": {"phase": "Failed", "reason": reason, "message": format!("Pod was rejected: {message}")},
        });
        match self.api.patch(&format!("{path}/status"), Patch::Strategic, &change).await {
            Ok(_) => Ok(FailedPod::Failed),
            Err(ApiError::Absent { .. } | ApiError::Conflict { .. }) => Ok(FailedPod::LeftAlone("it is gone")),
            Err(error) => Err(sort(pod, &error)),
        }
    }
}

impl PodFailure for ApiPods {
    fn fail<'a>(
        &'a self,
        pod: &'a PodRef,
        reason: &'a str,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<FailedPod, PodFailureError>> + Send + 'a>> {
        Box::pin(self.fail_pod(pod, reason, message))
    }
}

/// Why the pod must not be failed; `None`: it may.
fn why_not(found: Option<&Value>, pod: &PodRef) -> Option<&'static str> {
    let Some(found) = found else { return Some("it is gone") };
    let metadata = found.get("metadata");
    let uid = metadata.and_then(|metadata| metadata.get("uid")).and_then(Value::as_str);
    let annotations = metadata.and_then(|metadata| metadata.get("annotations")).and_then(Value::as_object);
    let phase = found.pointer("/status/phase").and_then(Value::as_str);
    if annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        Some("it is the image of a static pod, which nobody would make again")
    } else if uid != Some(pod.uid.to_string().as_str()) {
        Some("another pod has its name")
    } else if matches!(phase, Some("Failed" | "Succeeded")) {
        Some("it is over already")
    } else {
        None
    }
}

fn sort(pod: &PodRef, error: &ApiError) -> PodFailureError {
    let (pod, detail) = (pod.clone(), error.to_string());
    match error {
        ApiError::Away { .. } | ApiError::Throttled { .. } | ApiError::Failed { .. } | ApiError::Garbled { .. } => {
            PodFailureError::Away { pod, detail }
        }
        _ => PodFailureError::Refused { pod, detail },
    }
}
