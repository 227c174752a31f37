//! Trimtab: one small daemon that holds a Kubernetes node at what a profile says.
//!
//! Floors, from the roof down: `app` composes; `serve` answers; `subsystems` decide what to hold and `adapters`
//! reach the node; [`reconcile`] and [`ports`] join the two. A room uses the floors below it only.

pub mod adapters;
pub mod app;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod lifecycle;
pub mod metrics;
pub mod picture;
pub mod ports;
pub mod profile;
pub mod reconcile;
pub mod serve;
pub mod subsystems;
pub mod telemetry;
