//! What the runtime asks: names of methods and the messages behind them.

use prost::{DecodeError, Message};
use trimtab_proto::nri::v1alpha1 as nri;
use trimtab_proto::ttrpc::Request;

use super::answers::{Call, Failure};
use super::convert;
use super::ttrpc::code;
use crate::ports::admission::Lifecycle;
use crate::ports::nri_stats::NriMethod;

/// Service that the runtime calls.
pub(super) const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";

/// A request that was understood.
#[derive(Debug)]
pub(super) enum Asked {
    Configure(nri::ConfigureRequest),
    Synchronize(nri::SynchronizeRequest),
    /// Something for [`Admission`](crate::ports::admission::Admission).
    Call(Box<Call>),
    /// Nothing that matters here, but an answer is due.
    Nothing,
    Shutdown,
}

/// The kind of a request, known even if its content cannot be read.
pub(super) fn method(request: &Request) -> NriMethod {
    match request.method.as_str() {
        "Configure" => NriMethod::Configure,
        "Synchronize" => NriMethod::Synchronize,
        "CreateContainer" => NriMethod::CreateContainer,
        "UpdateContainer" => NriMethod::UpdateContainer,
        "StopContainer" => NriMethod::StopContainer,
        "StateChange" => NriMethod::Event,
        name if event_of(name).is_some() => NriMethod::Event,
        _ => NriMethod::Other,
    }
}

/// The request behind an envelope.
///
/// # Errors
/// What the runtime is to be told: the method is unknown, or the content cannot be read.
pub(super) fn asked(request: &Request) -> Result<Asked, Failure> {
    if request.service != PLUGIN_SERVICE {
        return Err(unimplemented(request));
    }
    let bytes = request.payload.as_slice();
    let unreadable = |error: DecodeError| {
        Failure::defect(code::INVALID_ARGUMENT, format!("trimtab cannot read {}: {error}", request.method))
    };
    let asked = match request.method.as_str() {
        "Configure" => Asked::Configure(nri::ConfigureRequest::decode(bytes).map_err(unreadable)?),
        "Synchronize" => Asked::Synchronize(nri::SynchronizeRequest::decode(bytes).map_err(unreadable)?),
        "Shutdown" => Asked::Shutdown,
        "CreateContainer" => {
            let nri::ContainerRequest { pod, container } = Message::decode(bytes).map_err(unreadable)?;
            let container = convert::container(container.ok_or_else(|| incomplete(request))?);
            Asked::Call(Box::new(Call::Create(convert::sandbox(pod.unwrap_or_default(), true), container)))
        }
        "UpdateContainer" => {
            let message = nri::UpdateContainerRequest::decode(bytes).map_err(unreadable)?;
            let container = convert::container(message.container.ok_or_else(|| incomplete(request))?);
            let asked = convert::resources(message.linux_resources.unwrap_or_default());
            Asked::Call(Box::new(Call::Update(
                convert::sandbox(message.pod.unwrap_or_default(), true),
                container,
                asked,
            )))
        }
        "StopContainer" => {
            let nri::ContainerRequest { pod, container } = Message::decode(bytes).map_err(unreadable)?;
            let container = convert::container(container.ok_or_else(|| incomplete(request))?);
            Asked::Call(Box::new(Call::Stop(convert::sandbox(pod.unwrap_or_default(), true), container)))
        }
        "StateChange" => {
            let told = nri::StateChangeEvent::decode(bytes).map_err(unreadable)?;
            event(told.event(), told.pod, told.container)
        }
        "UpdatePodSandbox" => {
            let message = nri::UpdatePodSandboxRequest::decode(bytes).map_err(unreadable)?;
            let mut sandbox = convert::sandbox(message.pod.unwrap_or_default(), true);
            // What the sandbox is about to have, not what it has.
            sandbox.pod_resources = message.linux_resources.map(convert::resources).or(sandbox.pod_resources);
            Asked::Call(Box::new(Call::Event(Lifecycle::SandboxUpdated, sandbox, None)))
        }
        name => {
            let event_told = event_of(name).ok_or_else(|| unimplemented(request))?;
            // A request that names only a sandbox is one of this kind too.
            let nri::ContainerRequest { pod, container } = Message::decode(bytes).map_err(unreadable)?;
            event(event_told, pod, container)
        }
    };
    Ok(asked)
}

/// Since 0.12 each event is a method of its own.
fn event_of(method: &str) -> Option<nri::Event> {
    Some(match method {
        "RunPodSandbox" => nri::Event::RunPodSandbox,
        "StopPodSandbox" => nri::Event::StopPodSandbox,
        "RemovePodSandbox" => nri::Event::RemovePodSandbox,
        "UpdatePodSandbox" => nri::Event::UpdatePodSandbox,
        "PostUpdatePodSandbox" => nri::Event::PostUpdatePodSandbox,
        "PostCreateContainer" => nri::Event::PostCreateContainer,
        "StartContainer" => nri::Event::StartContainer,
        "PostStartContainer" => nri::Event::PostStartContainer,
        "PostUpdateContainer" => nri::Event::PostUpdateContainer,
        "RemoveContainer" => nri::Event::RemoveContainer,
        _ => return None,
    })
}

fn event(event: nri::Event, pod: Option<nri::PodSandbox>, container: Option<nri::Container>) -> Asked {
    use nri::Event as E;
    let told = match event {
        E::RunPodSandbox => Lifecycle::SandboxStarted,
        E::StopPodSandbox => Lifecycle::SandboxStopped,
        E::RemovePodSandbox => Lifecycle::SandboxRemoved,
        E::UpdatePodSandbox | E::PostUpdatePodSandbox => Lifecycle::SandboxUpdated,
        E::PostStartContainer => Lifecycle::ContainerStarted,
        E::RemoveContainer => Lifecycle::ContainerRemoved,
        _ => return Asked::Nothing,
    };
    let gone = matches!(told, Lifecycle::SandboxStopped | Lifecycle::SandboxRemoved);
    let sandbox = convert::sandbox(pod.unwrap_or_default(), !gone);
    Asked::Call(Box::new(Call::Event(told, sandbox, container.map(convert::container))))
}

fn unimplemented(request: &Request) -> Failure {
    Failure::defect(code::UNIMPLEMENTED, format!("trimtab does not serve {}/{}", request.service, request.method))
}

fn incomplete(request: &Request) -> Failure {
    Failure::defect(code::INVALID_ARGUMENT, format!("{} names no container", request.method))
}
