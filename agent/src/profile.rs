//! The node profile: text to a validated [`NodeSpec`], or every reason why not, each with its place.
//!
//! One YAML (or JSON) document:
//!
//! ```yaml
//! apiVersion: trimtab.dev/v1alpha1
//! kind: NodeProfile
//! metadata:
//!   name: web
//! spec:
//!   sysctls:
//!     values:
//!       net.core.somaxconn: 16384
//!   kernel:
//!     transparentHugePages: {enabled: madvise}
//!   cgroup: {driver: systemd}
//!   resourceManagers: {cpuManagerPolicy: static, reservedSystemCPUs: "0"}
//!   ipMasq: {nonMasqueradeCIDRs: [10.0.0.0/8]}
//! ```
//!
//! Everything below `spec` may be left out; what is left out is not managed. Nothing of a document is used unless all
//! of it is valid. The fields of each section are described where they are read.

mod cgroup;
pub mod check;
mod confinement;
mod confirm;
pub mod diagnostic;
mod document;
mod go_duration;
mod ip_masq;
pub mod ip_masq_agent;
mod ip_masq_beyond;
mod ip_masq_metadata;
mod kernel;
mod kubernetes;
mod manager_options;
mod manager_rules;
mod pause;
mod reach;
mod reader;
mod reservations;
mod resource_managers;
mod rollout;
mod scalar;
pub mod schema;
mod suggest;
mod syntax;
mod sysctls;
mod text;
mod tree;

use trimtab_domain::cluster::selection::Reach;
use trimtab_domain::spec::NodeSpec;

use self::diagnostic::Position;
pub use self::diagnostic::{Diagnostic, Rejected};
pub use self::document::{API_VERSION, KIND};
use self::reader::{Cursor, MAX_ERRORS, Problems};
pub use self::text::MAX_BYTES;
pub use self::tree::{MAX_DEPTH, MAX_NODES};

/// A profile without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What it asks of the node.
    pub spec: NodeSpec,
    /// Whom it is for, if it is an object of the API server; a file is for the node that has it.
    pub reach: Reach,
    /// Accepted, but probably not what was meant.
    pub warnings: Vec<Diagnostic>,
}

/// Reads of a document only for which nodes it is, whether or not the rest of it is valid. `file` only names it.
///
/// # Errors
/// [`Rejected`] if that cannot be read.
pub fn reach(file: &str, text: &[u8]) -> Result<Reach, Rejected> {
    let (root, mut errors) = tree::read(text);
    let mut problems = Problems::default();
    let reach = root.and_then(|root| document::read_reach(&Cursor::root(&root), &mut problems));
    // What is wrong elsewhere in a document that can be read at all is for its own reader to say.
    if reach.is_some() {
        errors.clear();
    }
    errors.extend(problems.errors);
    errors.iter_mut().for_each(|diagnostic| file.clone_into(&mut diagnostic.file));
    match reach {
        Some(reach) if errors.is_empty() => Ok(reach),
        _ => Err(Rejected { diagnostics: errors }),
    }
}

/// Reads and validates a whole document. `file` only names it in messages.
///
/// # Errors
/// [`Rejected`] with every problem of the document, in the order of its lines.
pub fn parse(file: &str, text: &[u8]) -> Result<Profile, Rejected> {
    let (root, errors) = tree::read(text);
    let mut problems = Problems::default();
    errors.into_iter().for_each(|error| problems.refuse(error));
    let spec = root.and_then(|root| document::read(&Cursor::root(&root), &mut problems));
    let Problems { mut errors, more, mut warnings } = problems;
    errors.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    if more > 0 {
        let place = Position { line: 0, column: 0 };
        errors.push(Diagnostic::at(place, "", "more problems").found(format!("{more} beyond the first {MAX_ERRORS}")));
    }
    for diagnostic in errors.iter_mut().chain(&mut warnings) {
        file.clone_into(&mut diagnostic.file);
    }
    match spec {
        Some((spec, reach)) if errors.is_empty() => Ok(Profile { spec, reach, warnings }),
        _ => Err(Rejected { diagnostics: errors }),
    }
}
