//! The shape of a profile as an OpenAPI schema: what the API server checks before an agent ever sees an object.
//!
//! The reader is the judge, the schema its doorman: it never refuses what the reader takes, and what it lets through the
//! reader judges again. A test walks both and finds every key that only one of them knows.

mod build;
mod confirm;
mod ip_masq;
mod kernel;
mod kubernetes;
mod managers;
mod pause;
mod rollout;
mod selector;

use serde_json::Value;

pub(crate) use self::build::Schema;

/// `spec` of a profile.
#[must_use]
pub fn spec() -> Value {
    profile_spec().into_value()
}

fn profile_spec() -> Schema {
    Schema::object(
        "What a node is held at. Every section may be left out; what is left out is not managed, and what is taken out is \
         given back.",
    )
    .field("nodeSelector", selector::selector())
    .field(
        "weight",
        Schema::integer("Of several profiles that select a node the heaviest is in force, of equals the first by name.", 0, 1000)
            .default(0),
    )
    .field("sysctls", kernel::sysctls())
    .field("kernel", kernel::kernel())
    .field("cgroup", kernel::cgroup())
    .field("resourceManagers", managers::managers())
    .field("ipMasq", ip_masq::ip_masq())
    .field("kubernetes", kubernetes::kubernetes())
    .field("confirm", confirm::confirm())
    .field("rollout", rollout::rollout())
    .field("pause", pause::pause())
}
