//! The machine and who uses it, drawn: one set of facts, one arrangement, as text and as SVG.
//!
//! Pure: nothing here reads the node, a clock or the terminal. The page around the image is `serve`'s.

mod escape;
mod layout;
mod size;
mod summary;
pub mod svg;
pub mod text;
mod topology;
mod tree;

pub use self::escape::{Xml, visible};
pub use self::size::Size;
pub use self::summary::{Count, counts, summary};
pub use self::topology::{Cpu, Holder, Topology, Usage, key};
pub use self::tree::{Cache, Core, Machine, Numa, Socket};
