//! What the CPU manager can do and the kubelet cannot. Everything here is off by default.

/// Abilities beyond the kubelet; the default is none of them, and then every decision is the kubelet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuExtensions {
    /// Containers own the CPUs that annotations of their pod name; see [`EXCLUSIVE_CPUS`] and [`SHARED_CPUS`].
    pub annotations: bool,
    /// CPUs that the kernel keeps free of ordinary tasks.
    pub isolated: IsolatedCpus,
    /// A container whose request changed keeps as many of its CPUs as it can, instead of being impossible to resize.
    pub resize: bool,
}

/// What becomes of isolated CPUs (`isolcpus`, `/sys/devices/system/cpu/isolated`). Reserved ones are only reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum IsolatedCpus {
    /// They are CPUs like all others, as for the kubelet.
    #[default]
    Ordinary,
    /// They are never shared. A container that owns CPUs gets them first, if they suffice.
    ExclusiveOnly,
    /// They are neither shared nor owned.
    Untouched,
}

/// Annotation key, followed by the name of a container: how many CPUs the container owns, whatever the QoS class of
/// its pod. At most as many as it requests; 0 makes it run on shared CPUs only. A container that requests more than it
/// owns runs on the shared CPUs as well. Kubernetes allows 63 characters after the slash.
pub const EXCLUSIVE_CPUS: &str = "trimtab.dev/exclusive-cpus.";

/// Annotation key, followed by the name of a container: `true` lets a container that owns CPUs run on the shared ones,
/// too.
pub const SHARED_CPUS: &str = "trimtab.dev/shared-cpus.";
