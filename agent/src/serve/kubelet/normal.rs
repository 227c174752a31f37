//! One order for the kubelet's answers, which come in another one each time.

use trimtab_proto::podresources::v1;

use crate::ports::kubelet_answers::KubeletAnswers;

/// Sorts everything but containers and claims, whose order is that of the pod's specification.
pub(super) fn sort(answers: &mut KubeletAnswers) {
    let pods = &mut answers.list.pod_resources;
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    for container in pods.iter_mut().flat_map(|pod| &mut pod.containers) {
        container.cpu_ids.sort_unstable();
        sort_devices(&mut container.devices);
        sort_memory(&mut container.memory);
    }
    answers.allocatable.cpu_ids.sort_unstable();
    sort_devices(&mut answers.allocatable.devices);
    sort_memory(&mut answers.allocatable.memory);
}

fn sort_devices(devices: &mut [v1::ContainerDevices]) {
    devices.sort_by(|a, b| {
        let key = |device: &v1::ContainerDevices| nodes(device.topology.as_ref());
        (&a.resource_name, &a.device_ids, key(a)).cmp(&(&b.resource_name, &b.device_ids, key(b)))
    });
}

fn sort_memory(blocks: &mut [v1::ContainerMemory]) {
    blocks.sort_by_cached_key(|block| (nodes(block.topology.as_ref()), block.memory_type.clone(), block.size));
}

fn nodes(topology: Option<&v1::TopologyInfo>) -> Vec<i64> {
    topology.map(|topology| topology.nodes.iter().map(|node| node.id).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn topology(nodes: &[i64]) -> Option<v1::TopologyInfo> {
        Some(v1::TopologyInfo { nodes: nodes.iter().map(|id| v1::NumaNode { id: *id }).collect() })
    }

    fn device(resource: &str, id: &str, node: i64) -> v1::ContainerDevices {
        v1::ContainerDevices {
            resource_name: resource.into(),
            device_ids: vec![id.into()],
            topology: topology(&[node]),
        }
    }

    #[test]
    fn two_orders_of_one_answer_become_equal_and_containers_stay_in_place() {
        let container = |name: &str, devices| v1::ContainerResources {
            name: name.into(),
            devices,
            cpu_ids: vec![7, 3],
            ..Default::default()
        };
        let pod = |name: &str, containers| v1::PodResources { name: name.into(), namespace: "n".into(), containers };
        let sidecar = container("z-sidecar", vec![]);
        let app = container("app", vec![device("v/b", "1", 0), device("v/a", "2", 1), device("v/a", "2", 0)]);
        let pods = vec![pod("q", vec![]), pod("p", vec![sidecar, app])];
        let mut one =
            KubeletAnswers { list: v1::ListPodResourcesResponse { pod_resources: pods }, ..Default::default() };
        one.allocatable.cpu_ids = vec![2, 1];
        one.allocatable.memory = [(1, "memory"), (0, "memory"), (0, "hugepages-2Mi")]
            .map(|(node, kind)| v1::ContainerMemory { memory_type: kind.into(), size: 1, topology: topology(&[node]) })
            .into();
        let mut other = one.clone();
        other.list.pod_resources.reverse();
        other.list.pod_resources[0].containers[1].devices.reverse();
        other.list.pod_resources[0].containers[0].cpu_ids.reverse();
        other.allocatable.memory.reverse();
        sort(&mut one);
        sort(&mut other);
        assert_eq!(one, other);
        let containers = &one.list.pod_resources[0].containers;
        assert_eq!((containers[0].name.as_str(), containers[1].name.as_str()), ("z-sidecar", "app"));
        let devices: Vec<_> =
            containers[1].devices.iter().map(|d| (d.resource_name.as_str(), d.topology.clone())).collect();
        assert_eq!(devices, [("v/a", topology(&[0])), ("v/a", topology(&[1])), ("v/b", topology(&[0]))]);
        assert_eq!(one.allocatable.memory[0].memory_type, "hugepages-2Mi", "by node, then by type");
    }
}
