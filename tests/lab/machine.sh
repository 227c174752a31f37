#!/usr/bin/env bash
# Boots a machine with a NUMA topology and runs the program `run` of a directory in it, which it sees as /lab. Nothing that
# happens inside outlives it, and it has no network. What the program prints appears here; its exit code is ours.
#
#   machine.sh TOPOLOGY DIRECTORY [SECONDS]
#
#   two            2 sockets, each a NUMA node of 2 cores with 2 threads
#   four           2 sockets of 2 NUMA nodes, each of 2 cores with 2 threads
#   memory-only    as `two`, and a third node that has memory and no CPU
#   forky          as `two`, with systemd, containerd and runc of Debian testing; what is in there changes any day
#
# Exit code 124: time is up; 125: the machine did not run.
set -euo pipefail

[ $# -ge 2 ] || {
  sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
  exit 64
}
topology=$1
directory=$2
seconds=${3:-900}
# An emulated machine now and then hangs before it says its first word.
first_word=120
work=$(mktemp -d)
machine=

# shellcheck disable=SC2317  # by the trap
finish() {
  [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

give_up() {
  echo "machine.sh: $*" >&2
  exit 125
}

hardware=()
total=0
# Adds a node with so many MiB and, if any, a range of CPUs.
node() {
  local number=${#hardware[@]}
  number=$((number / 4))
  hardware+=(-object "memory-backend-ram,id=memory$number,size=$1M"
    -numa "node,nodeid=$number,memdev=memory$number${2:+,cpus=$2}")
  total=$((total + $1))
}
distances=()
distance() {
  distances+=(-numa "dist,src=$1,dst=$2,val=$3")
}
case $topology in
  two | memory-only | forky)
    processors=8,sockets=2,cores=2,threads=2
    node 1024 0-3
    node 1024 4-7
    distance 0 1 21
    [ "$topology" != memory-only ] || {
      node 256
      distance 0 2 17
      distance 1 2 28
    }
    ;;
  four)
    processors=16,sockets=2,cores=4,threads=2
    for first in 0 4 8 12; do
      node 640 "$first-$((first + 3))"
    done
    distance 0 1 12
    distance 2 3 12
    for pair in '0 2' '0 3' '1 2' '1 3'; do
      # shellcheck disable=SC2086  # two words
      distance $pair 32
    done
    ;;
  *) give_up "unknown topology $topology" ;;
esac

# A KVM that is not the hardware's own emulates each instruction, slower than QEMU does.
if [ -w /dev/kvm ] && { [ -d /sys/module/kvm_intel ] || [ -d /sys/module/kvm_amd ]; }; then
  processor=(-accel kvm -cpu host)
else
  # QEMU 7.2 gets the flags of cmpxchg16b wrong, which newer kernels do not survive; the default vendor has no SMT. With a
  # thread per CPU one CPU may run into a breakpoint that another has just patched out of the kernel's text, which then
  # panics (seen: int3 in update_curr); on two cores one thread is as fast.
  processor=(-accel 'tcg,thread=single' -cpu 'max,vendor=GenuineIntel,-cx16')
fi

suite=trixie
[ "$topology" != forky ] || suite=forky
image=$("$(dirname "$0")/image.sh" "$suite") || give_up "there is no image"
command -v qemu-system-x86_64 >/dev/null || give_up "QEMU is missing: run deploy/dev/install-tools.sh lab"
mke2fs -q -F -t ext4 -O ^has_journal -d "$directory" "$work/payload" 512M >/dev/null
mkfifo "$work/out"

boot() {
  : >"$work/console"
  # What the machine prints goes through a FIFO: QEMU would truncate a file, and stdin is not ours to give away.
  tee "$work/printed" <"$work/out" | sed -u '/lab: exit /d; s/\r$//' &
  local printer=$!
  timeout -k 5 "$seconds" qemu-system-x86_64 -M q35 -nodefaults -no-user-config -no-reboot -display none -nic none \
    "${processor[@]}" -smp "$processors" -m "${total}M" "${hardware[@]}" "${distances[@]}" \
    -kernel "$image/kernel" -initrd "$image/initrd" \
    -append 'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check random.trust_cpu=on rw systemd.unit=lab.service systemd.show_status=0' \
    -serial "file:$work/console" -serial "file:$work/out" \
    -drive "file=$image/disk.ext4,format=raw,if=virtio,snapshot=on" \
    -drive "file=$work/payload,format=raw,if=virtio,readonly=on" \
    </dev/null 2>"$work/errors" &
  machine=$!
  local waited=0
  until grep -aq 'lab: the machine is up' "$work/console" || ! kill -0 "$machine" 2>/dev/null; do
    if [ $((waited += 1)) -gt $((first_word * 4)) ]; then
      kill "$machine"
      break
    fi
    sleep 0.25
  done
  code=0
  wait "$machine" || code=$?
  machine=
  # A printer that still waits for somebody to open the other end sees the end.
  : 1<>"$work/out"
  wait "$printer" || true
}

# A machine that never came up, or whose kernel died, says nothing about what ran in it.
for attempt in 1 2 3; do
  boot
  if grep -aq 'Kernel panic' "$work/console" && ! grep -q 'lab: exit ' "$work/printed"; then
    echo "machine.sh: the machine's kernel panicked in attempt $attempt" >&2
    grep -aE 'Oops|BUG:|RIP:|Kernel panic' "$work/console" | head -n 5 >&2
  elif ! grep -aq 'lab: the machine is up' "$work/console"; then
    echo "machine.sh: no sign of life after attempt $attempt" >&2
    tail -n 3 "$work/errors" >&2
  else
    break
  fi
done
# What systemd asks the terminal may stand before it on the line.
result=$(sed -n 's/.*lab: exit \([0-9]*\).*/\1/p' "$work/printed" | tail -n 1)
[ -z "$result" ] || exit "$result"
tail -n 25 "$work/console" "$work/errors" >&2
[ "$code" != 124 ] || exit 124
give_up "the machine ended without an answer"
