#!/usr/bin/env bash
# Builds what a machine of the lab boots: kernel, first root file system and disk, of Debian packages, with systemd, D-Bus
# and containerd. Prints the directory. It is built anew when this script or the week changes, which takes two minutes.
#
#   image.sh [SUITE]
set -euo pipefail

here=$(dirname "$(realpath "$0")")
suite=${1:-trixie}
packages=systemd-sysv,dbus,udev,kmod,iproute2,iptables,containerd,runc,busybox-static
modules=(virtio_pci virtio_blk ext4)
cache=${TRIMTAB_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trimtab-lab}
image=$cache/machine-$suite-$({ cat "$0"; date +%G-%V; } | sha256sum | cut -c 1-10)

give_up() {
  echo "image.sh: $*" >&2
  exit 1
}

# Removes a tree in which an interrupted build may have left proc, sys and dev mounted.
wipe() {
  local point
  while read -r point; do
    umount "$point"
  done < <(findmnt --raw --noheadings --output TARGET | grep "^$1/" | sort -r)
  rm -rf --one-file-system "$1"
}

# The disk: systemd runs one unit, which runs what the second disk brings, and the machine is switched off with it.
make_disk() {
  local root=$1
  # A mirror's copy of testing may be older than its own date allows.
  mmdebstrap --variant=minbase --aptopt='APT::Install-Recommends "0"' --dpkgopt=force-unsafe-io \
    --aptopt="Acquire::Check-Valid-Until \"$([ "$suite" = trixie ] && echo true || echo false)\"" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$packages" \
    "$suite" "$root" "$("$here/packages.sh" "$suite" --source)" >"$image.log" 2>&1 || {
    tail -n 5 "$image.log" >&2
    give_up "mmdebstrap failed, see $image.log"
  }
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
  cp -a "$kernel/usr/lib/modules" "$root/usr/lib/"
  depmod -b "$root" "$version"
  mkdir "$root/lab"
  echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
  rm -f "$root/etc/resolv.conf"
  echo '# no network' >"$root/etc/resolv.conf"
  # Whatever else a boot does costs seconds in emulation.
  for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udev-load-credentials.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-modules-load.service modprobe@.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount run-lock.mount \
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service kmod-static-nodes.service \
    systemd-random-seed.service systemd-journal-flush.service timers.target; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
  done
  touch "$root/etc/.updated" "$root/var/.updated"
  cat >"$root/etc/systemd/system/lab.service" <<'UNIT'
[Unit]
Description=The lab
Requires=basic.target dbus.socket
After=basic.target dbus.socket
[Service]
Type=oneshot
ExecStart=/lab/run
ExecStopPost=/bin/sh -c 'echo "lab: exit ${EXIT_STATUS}"; exec /usr/bin/busybox poweroff -f'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TimeoutStartSec=infinity
UNIT
  mke2fs -q -F -t ext4 -O ^has_journal -d "$root" "$work/disk.ext4" 3G >/dev/null
}

# The first root file system: loads the modules of the disks, mounts both, and hands over to systemd.
make_initrd() {
  local tree=$1 number=10 file name
  mkdir -p "$tree"/{bin,modules,proc,sys,dev,root}
  cp "$busybox/bin/busybox" "$tree/bin/"
  while read -r file; do
    name=$(basename "$file" .xz)
    xz -dc "$file" >"$tree/modules/$number-$name"
    number=$((number + 1))
  done < <(for name in "${modules[@]}"; do
    modprobe -d "$work/root" -S "$version" --show-depends "$name"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
  cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t devtmpfs dev /dev
echo 'lab: the machine is up'
for module in /modules/*; do
  $busybox insmod "$module" || echo "lab: no $module"
done
$busybox mount -t ext4 -o noatime /dev/vda /root || echo 'lab: no disk'
$busybox mount -t ext4 -o ro /dev/vdb /root/lab || echo 'lab: no second disk'
$busybox umount /proc
$busybox mount --move /dev /root/dev
exec $busybox switch_root /root /sbin/init
INIT
  chmod 755 "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"
}

mkdir -p "$cache"
exec 9>"$cache/machine.lock"
flock 9
[ ! -d "$image" ] || {
  echo "$image"
  exit 0
}
for tool in mmdebstrap mke2fs depmod cpio xz; do
  command -v "$tool" >/dev/null || give_up "$tool is missing: run deploy/dev/install-tools.sh lab"
done
[ "$(uname -m)" = x86_64 ] || give_up "there are machines for x86-64 only"
echo "image.sh: building the machine, this takes some minutes" >&2
# The kernel is that of stable always: it is runtime and systemd that differ.
read -r kernel < <("$here/packages.sh" trixie 'linux-image-6.*-cloud-amd64')
read -r busybox < <("$here/packages.sh" bookworm busybox-static)
version=$(basename "$kernel"/usr/lib/modules/*)
work=$cache/machine-$suite.new
wipe "$work"
mkdir -p "$work/root"
make_disk "$work/root"
make_initrd "$work/initrd.tree"
cp "$kernel"/boot/vmlinuz-* "$work/kernel"
wipe "$work/root"
wipe "$work/initrd.tree"
rm -rf "$cache/machine-$suite-"*
mv "$work" "$image"
echo "$image"
