//! What can be broken, for which calls, and how often.

use std::time::Duration;

use super::log::Call;

/// What happens instead of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Harm {
    /// The connection is cut.
    Cut,
    /// No answer ever.
    Hang,
    /// The answer comes late.
    Slow(Duration),
    /// An error with this code.
    Status(u16),
    /// 429 with this many seconds in `Retry-After`, as plain text (API Priority and Fairness).
    Throttle(u64),
    /// 200 with something that is no JSON.
    Garbage,
    /// The task that asks dies of a fault of its own; only without a socket.
    Panic,
}

/// Something broken.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    harm: Harm,
    verb: Option<&'static str>,
    resource: Option<&'static str>,
    left: Option<u32>,
}

impl Fault {
    fn of(harm: Harm) -> Self {
        Self { harm, verb: None, resource: None, left: None }
    }

    pub(crate) fn down() -> Self {
        Self::of(Harm::Cut)
    }

    pub(crate) fn hang() -> Self {
        Self::of(Harm::Hang)
    }

    pub(crate) fn slow(by: Duration) -> Self {
        Self::of(Harm::Slow(by))
    }

    pub(crate) fn status(code: u16) -> Self {
        Self::of(Harm::Status(code))
    }

    pub(crate) fn throttle(retry_after_seconds: u64) -> Self {
        Self::of(Harm::Throttle(retry_after_seconds))
    }

    pub(crate) fn garbage() -> Self {
        Self::of(Harm::Garbage)
    }

    pub(crate) fn panic() -> Self {
        Self::of(Harm::Panic)
    }

    /// Only for this verb.
    pub(crate) fn on(mut self, verb: &'static str) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only for this resource.
    pub(crate) fn of_resource(mut self, resource: &'static str) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Only so many times.
    pub(crate) fn times(mut self, times: u32) -> Self {
        self.left = Some(times);
        self
    }
}

/// The harm that comes to this call.
pub(super) fn strike(faults: &mut [Fault], call: &Call) -> Option<Harm> {
    let fault = faults.iter_mut().find(|fault| {
        fault.left != Some(0)
            && fault.verb.is_none_or(|verb| verb == call.verb)
            && fault.resource.is_none_or(|resource| resource == call.resource)
    })?;
    fault.left = fault.left.map(|left| left - 1);
    Some(fault.harm.clone())
}
