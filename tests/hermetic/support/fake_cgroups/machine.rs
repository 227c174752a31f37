//! The machine below a fake node: its shape, and how sysfs and procfs show it.

use trimtab_domain::cpuset::CpuSet;

use crate::support::fake_host::FakeHost;

/// Shape of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) nodes: u32,
    pub(crate) cores_per_node: u32,
    pub(crate) threads: u32,
}

impl Shape {
    pub(crate) const fn cpus(self) -> u32 {
        self.nodes * self.cores_per_node * self.threads
    }
}

/// sysfs and procfs of a machine whose threads are numbered as on most: all first threads, then all second ones.
pub(crate) fn make_topology(host: &FakeHost, shape: Shape) {
    let cores = shape.nodes * shape.cores_per_node;
    let all = CpuSet::range(0, shape.cpus() - 1);
    host.file("/sys/devices/system/cpu/online", format!("{all}\n"));
    host.file("/sys/devices/system/cpu/present", format!("{all}\n"));
    host.file("/proc/meminfo", format!("MemTotal:       {} kB\n", u64::from(shape.nodes) * (16 << 20)));
    for cpu in all.iter() {
        let core = cpu % cores;
        let node = core / shape.cores_per_node;
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        host.file(format!("{topology}/core_id"), format!("{core}\n"));
        host.file(format!("{topology}/physical_package_id"), format!("{node}\n"));
        host.link(format!("/sys/devices/system/node/node{node}/cpu{cpu}"), format!("../../cpu/cpu{cpu}"));
    }
    for node in 0..shape.nodes {
        let directory = format!("/sys/devices/system/node/node{node}");
        let row: Vec<String> = (0..shape.nodes).map(|other| if other == node { "10" } else { "20" }.into()).collect();
        host.file(format!("{directory}/meminfo"), format!("Node {node} MemTotal:       {} kB\n", 16 << 20));
        host.file(format!("{directory}/distance"), format!("{}\n", row.join(" ")));
    }
}
