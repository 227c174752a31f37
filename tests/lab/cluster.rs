//! What the tests with a real container runtime share, on the plain machine and in the lab: the kubelet's part, the runtime,
//! and what the kernel says.
#![allow(dead_code, reason = "each test uses the part that it needs")]

// By path, because two programs include this file.
#[path = "cluster/containerd.rs"]
pub(crate) mod containerd;
#[path = "cluster/cri.rs"]
pub(crate) mod cri;
#[path = "cluster/pods.rs"]
pub(crate) mod pods;
#[path = "cluster/truth.rs"]
pub(crate) mod truth;
#[path = "cluster/wait.rs"]
pub(crate) mod wait;
