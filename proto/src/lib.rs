//! The protocols that Trimtab speaks, generated from the `.proto` files of this crate.

#![allow(clippy::allow_attributes_without_reason, reason = "generated code carries allows without reasons")]

/// The kubelet's query service; wire-compatible with Kubernetes 1.36.
pub mod podresources {
    /// `v1.PodResourcesLister`: CPUs, memory and devices by container.
    #[expect(clippy::too_many_lines, reason = "the generated server matches its methods in one function")]
    pub mod v1 {
        tonic::include_proto!("v1");

        /// Encoded `FileDescriptorSet` of the package, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/podresources_v1.bin"));
    }

    /// `v1alpha1.PodResourcesLister`: devices by container.
    pub mod v1alpha1 {
        tonic::include_proto!("v1alpha1");

        /// Encoded `FileDescriptorSet` of the package, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/podresources_v1alpha1.bin"));
    }
}

/// Messages of protobuf itself that others are made of.
pub use prost_types::{Duration, Timestamp};

/// What Trimtab tells about its node.
pub mod node {
    /// `trimtab.node.v1alpha1.NodeState`: report, placements, history, and the few calls that change something.
    pub mod v1alpha1 {
        tonic::include_proto!("trimtab.node.v1alpha1");

        /// Encoded `FileDescriptorSet` of the package, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node_v1alpha1.bin"));
    }
}

/// What a container runtime and its plugins tell each other.
pub mod nri {
    /// `nri.pkg.api.v1alpha1`, trimmed to CPUs, memory nodes and what identifies containers.
    #[expect(missing_docs, reason = "fields that say themselves what they are")]
    pub mod v1alpha1 {
        tonic::include_proto!("nri.pkg.api.v1alpha1");
    }
}

/// Envelope of the calls of containerd's small RPC.
pub mod ttrpc {
    tonic::include_proto!("ttrpc");
}

/// The container runtime interface, trimmed to what is asked; wire-compatible with Kubernetes 1.36.
pub mod runtime {
    /// `runtime.v1.RuntimeService`. The server is for tests.
    #[expect(clippy::too_many_lines, reason = "the generated server matches its methods in one function")]
    #[expect(clippy::enum_variant_names, reason = "names of the published protocol")]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}
