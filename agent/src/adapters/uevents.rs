//! CPUs, memory and NUMA nodes that go or come, as the kernel announces them (`NETLINK_KOBJECT_UEVENT`): sysfs says no
//! word of it to inotify, and neither do the cgroups whose sets change with them.
//!
//! The announcements reach the network namespaces of the first user namespace only, which is where a DaemonSet with
//! `hostNetwork` runs (`lib/kobject_uevent.c`).

use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// `NETLINK_KOBJECT_UEVENT` of `linux/netlink.h`.
const NETLINK_KOBJECT_UEVENT: isize = 15;
/// What the kernel announces itself; group 2 is what udev makes of it.
const GROUP_KERNEL: u32 = 1;
/// `ENOBUFS` of `errno.h`.
const ENOBUFS: i32 = 105;
/// Devices whose comings and goings change what can be pinned to.
const DEVICES: [&str; 3] = ["/devices/system/cpu/cpu", "/devices/system/node/node", "/devices/system/memory/memory"];
/// What may happen to them; `change` is for firmware and frequencies.
const ACTIONS: [&str; 4] = ["online", "offline", "add", "remove"];

/// Announcements about hardware.
pub struct HardwareChanges {
    socket: TokioSocket,
}

impl HardwareChanges {
    /// Joins the kernel's group of listeners; needs no privilege, but a tokio runtime.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_KOBJECT_UEVENT)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUP_KERNEL))?;
        Ok(Self { socket })
    }

    /// Waits until a CPU, a NUMA node or a block of memory has gone or come.
    ///
    /// # Errors
    /// The socket's. That announcements were lost (`ENOBUFS`) is no error: then anything may have changed.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            match self.socket.recv_from_full().await {
                // Port 0 is the kernel; others who may send to the group need not be believed.
                Ok((datagram, sender)) if sender.port_number() == 0 && concerns_hardware(&datagram) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// `ACTION@DEVPATH`, then variables, each ended by a zero byte.
fn concerns_hardware(datagram: &[u8]) -> bool {
    let header = datagram.split(|byte| *byte == 0).next().and_then(|header| std::str::from_utf8(header).ok());
    let Some((action, device)) = header.and_then(|header| header.split_once('@')) else { return false };
    ACTIONS.contains(&action) && DEVICES.iter().any(|prefix| is_numbered(device, prefix))
}

fn is_numbered(device: &str, prefix: &str) -> bool {
    let number = device.strip_prefix(prefix);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_nodes_and_memory_count_and_nothing_else() {
        let rows: [(&[u8], bool); 9] = [
            (b"offline@/devices/system/cpu/cpu3\0ACTION=offline\0", true),
            (b"online@/devices/system/cpu/cpu127\0", true),
            (b"add@/devices/system/node/node1\0", true),
            (b"remove@/devices/system/memory/memory32", true),
            (b"change@/devices/system/cpu/cpu3\0", false),
            (b"add@/devices/system/cpu/cpuidle\0", false),
            (b"add@/devices/virtual/net/veth1\0", false),
            (b"libudev\0\xfe\xed\xca\xfe", false),
            (b"", false),
        ];
        for (datagram, expected) in rows {
            assert_eq!(concerns_hardware(datagram), expected, "{}", String::from_utf8_lossy(datagram));
        }
    }

    #[tokio::test]
    async fn the_kernel_lets_anybody_listen() {
        assert!(HardwareChanges::open().is_ok());
    }
}
