//! Where the cgroup is that `kubeReservedCgroup` and `systemReservedCgroup` name.

use crate::spec::cgroup::CgroupDriver;

/// A value that names no cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} names {what}; name a cgroup of its own, such as /system.slice")]
pub struct ReservedNameError {
    /// The value.
    pub value: String,
    /// What it names instead.
    pub what: &'static str,
}

/// The path that the kubelet makes of the value, relative to a mount point (kubelet `cm/cgroup_manager_linux.go`). The
/// cgroupfs driver takes it literally. Of the systemd driver only the base name counts, which must be nested as systemd
/// nests slices: `a-b.slice` is `a.slice/a-b.slice`.
///
/// # Errors
/// [`ReservedNameError`] for the root, with which the kubelet panics or bounds the whole node, and for a name that no
/// slice can have.
pub fn reserved_cgroup(value: &str, driver: CgroupDriver) -> Result<String, ReservedNameError> {
    let refuse = |what| ReservedNameError { value: value.to_owned(), what };
    let literal = value.trim_matches('/');
    if literal.is_empty() {
        return Err(refuse("the root of all cgroups"));
    }
    match driver {
        CgroupDriver::Cgroupfs => Ok(literal.to_owned()),
        CgroupDriver::Systemd => {
            let base = literal.rsplit('/').next().unwrap_or(literal);
            let base = base.strip_suffix(".slice").unwrap_or(base);
            let parts: Vec<&str> = base.split('-').collect();
            if parts.iter().any(|part| part.is_empty()) {
                return Err(refuse("no slice that systemd could have"));
            }
            let depths = 1..=parts.len();
            let slices = depths.map(|depth| parts.iter().take(depth).copied().collect::<Vec<_>>().join("-") + ".slice");
            Ok(slices.collect::<Vec<_>>().join("/"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CgroupDriver::{Cgroupfs, Systemd};

    #[test]
    fn values_name_what_they_name_for_the_kubelet() {
        let rows = [
            ("/system.slice", Systemd, Ok("system.slice")),
            ("system.slice", Systemd, Ok("system.slice")),
            ("/system", Systemd, Ok("system.slice")),
            ("system", Systemd, Ok("system.slice")),
            ("/system", Cgroupfs, Ok("system")),
            ("/system.slice", Cgroupfs, Ok("system.slice")),
            ("/kube-reserved.slice", Systemd, Ok("kube.slice/kube-reserved.slice")),
            ("/kube-reserved.slice", Cgroupfs, Ok("kube-reserved.slice")),
            ("/kube.slice/runtime.slice", Systemd, Ok("runtime.slice")),
            ("/kube.slice/runtime.slice", Cgroupfs, Ok("kube.slice/runtime.slice")),
            ("/system.slice/kubelet.service", Systemd, Ok("kubelet.service.slice")),
            ("/system.slice/kubelet.service", Cgroupfs, Ok("system.slice/kubelet.service")),
            ("/", Systemd, Err("the root of all cgroups")),
            ("/", Cgroupfs, Err("the root of all cgroups")),
            ("/-.slice", Systemd, Err("no slice that systemd could have")),
        ];
        for (value, driver, expected) in rows {
            let path = reserved_cgroup(value, driver);
            assert_eq!(path.as_deref().map_err(|error| error.what), expected, "{value} {driver}");
        }
    }
}
