//! Sandboxes in the making. A runtime makes the cgroup of a sandbox a while before it tells of it, and meanwhile it looks
//! like a container: its limits are the kernel's, and its only process is the runtime's own, until that becomes "pause".
//!
//! It is left to the runtime. Whoever has systemd set a property of its scope has it put its device filter anew, too; if
//! that is just when runc replaces the filter, runc finds the old one gone, and the pod does not start.

use trimtab_domain::cgroup::LeafKind;
use trimtab_domain::cgroup::tree::ContainerCgroup;

use super::facts::{CPUS, MEMS, Observed, file_object};
use super::placement_record;

/// Marks them in the tree, where a runtime has told everything that it runs: of a pod without a sandbox that runs there
/// is nothing else that nobody knows by name. What has been given something is somebody's all the same: a runtime that
/// was restarted under load forgets containers that run.
pub(super) fn set_apart(observed: &mut Observed) {
    let Observed { tree: Some(tree), desk, listed, names, records, .. } = observed else { return };
    if !*listed && !desk.connected {
        return;
    }
    let is_known = |leaf: &ContainerCgroup| {
        let path = &leaf.cpuset.path;
        let objects = [file_object(path, CPUS), file_object(path, MEMS), placement_record::object(path)];
        names.containers.contains_key(&leaf.id)
            || desk.roster.container(&leaf.id).is_some()
            || objects.iter().any(|object| records.contains_key(object))
    };
    let waiting = tree.pods.iter_mut().filter(|pod| desk.roster.ready_sandbox(&pod.uid).is_none());
    for leaf in waiting.flat_map(|pod| &mut pod.containers) {
        if leaf.kind == LeafKind::Container && !is_known(leaf) {
            leaf.kind = LeafKind::Sandbox;
        }
    }
}
