//! The tell-tale of a runtime that takes a systemd path for a directory name.

/// True for a directory literally named `…slice:cri-containerd:<id>`: the runtime uses cgroupfs, the kubelet systemd,
/// and the container runs outside the cgroup of its pod, so none of its limits applies.
#[must_use]
pub fn literal_systemd_path(name: &str) -> bool {
    let mut parts = name.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(id), None) => {
            slice.ends_with(".slice") && !prefix.is_empty() && !id.is_empty()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_part_form_is_a_tell_tale() {
        for (name, expected) in [
            ("kubepods-besteffort-podx.slice:cri-containerd:0a", true),
            ("kubepods-besteffort-podx.slice", false),
            ("x.slice:cri-containerd", false),
            ("x:cri-containerd:0a", false),
            ("x.slice::0a", false),
            ("x.slice:a:b:c", false),
        ] {
            assert_eq!(literal_systemd_path(name), expected, "{name}");
        }
    }
}
