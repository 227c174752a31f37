#!/usr/bin/env bash
# A move to a cgroup driver that this machine cannot have, as it has no systemd: drained for by evictions, tried, and turned back
# from. Kubelet and runtime are stopped and started by a stand-in for systemd. Sourced.
moving() { # moving SECONDS: asks for it, with this longest drain
  profile "${pinning%\}},\"cgroup\":{\"driver\":\"systemd\",\"onMismatch\":\"Migrate\",\"migration\":{\"force\":true,\"drainTimeoutSeconds\":$1,\"readyTimeoutSeconds\":40}}}" >/dev/null
}
driver_reason() { is node own '{.status.conditions[?(@.type=="CgroupDriverMatched")].reason}' "$1"; }
cordoned() { is node own '{.spec.unschedulable}' true; }
uncordoned() { is node own '{.spec.unschedulable}' ''; }
as_before() { diff "$work/kubelet-before" /var/lib/kubelet/config.yaml && diff "$work/runtime-before" /etc/containerd/config.toml; }
cp /var/lib/kubelet/config.yaml "$work/kubelet-before" && cp /etc/containerd/config.toml "$work/runtime-before"

if dbus-daemon --version >/dev/null 2>&1 && /usr/bin/python3 -c 'import dbus, gi' 2>/dev/null; then
  pod moved '{}'
  within 60 runs moved || true
  moving 60
  soon "a move that this node cannot make is refused" driver_reason MigrationRefused
  echo "        $(condition CgroupDriverMatched message)"
  holds "the node is not cordoned" uncordoned
  mkdir -p /run/dbus
  printf '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "busconfig.dtd"><busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth><policy context="default"><allow send_destination="*"/><allow own="*"/><allow receive_sender="*"/></policy></busconfig>' >"$work/bus.xml"
  dbus-daemon --config-file="$work/bus.xml" --nofork >"$work/bus.log" 2>&1 &
  within 20 test -S /run/dbus/system_bus_socket
  /usr/bin/python3 tests/conformance/systemd.py \
    kubelet.service "$(echo $kubelet_command) >>$work/kubelet.log 2>&1" "$work/kubelet.pid" \
    containerd.service "$runtime_command >>$work/containerd.log 2>&1" "$work/containerd.pid" >"$work/systemd.log" 2>&1 &
  within 20 grep -q ready "$work/systemd.log"
  moving 61 # looked at again at once
  if within 240 cordoned; then pass "with somebody to stop the kubelet it begins, and cordons the node"
  else fail "with somebody to stop the kubelet it begins" "$(condition CgroupDriverMatched message)"; fi
  holds "it has a place of the disruption budget" grep -qx own <(admin -n trimtab-system get lease trimtab-disruption-0 -o jsonpath='{.spec.holderIdentity}')
  soon "pods without a budget are evicted" absent pod moved
  holds "one within its budget is not" runs burstable
  if within 180 driver_reason MigrationTurnedBack; then pass "a drain that takes too long is turned back from"
  else fail "a drain that takes too long is turned back from" "$(condition CgroupDriverMatched message)"; fi
  echo "        $(condition CgroupDriverMatched message)"
  soon "the node is uncordoned" uncordoned
  holds "kubelet and runtime were not touched" bash -c '! grep -q stopped "$work/systemd.log"'

  admin delete poddisruptionbudget none >/dev/null
  moving 120
  within 180 absent pod burstable && pass "without the budget the drain ends" || fail "without the budget the drain ends" "$(admin get pods -A)"
  if within 120 grep -q 'stopped containerd' "$work/systemd.log"; then pass "kubelet and runtime are stopped"
  else fail "kubelet and runtime are stopped" "$(condition CgroupDriverMatched message)"; fi
  edited() { grep -q 'cgroupDriver: systemd' /var/lib/kubelet/config.yaml && grep -q 'SystemdCgroup = true' /etc/containerd/config.toml; }
  soon "both files say the new driver" edited
  turned_back_again() { driver_reason MigrationTurnedBack && ! condition CgroupDriverMatched message | grep -q 'of draining'; }
  if within 400 turned_back_again; then pass "a kubelet that does not come up with the new driver is turned back from"
  else fail "a kubelet that does not come up with the new driver is turned back from" "$(condition CgroupDriverMatched message)"; fi
  echo "        $(condition CgroupDriverMatched message)"
  holds "both files are as before" as_before
  soon "the kubelet is ready again" ready
  soon "the node is uncordoned" uncordoned
  profile "$pinning" >/dev/null
  # A condition that has changed often is told again after up to five minutes.
  if within 400 is node own '{.status.conditions[?(@.type=="CgroupDriverMatched")].status}' True; then pass "without the wish all is well"
  else fail "without the wish all is well" "$(condition CgroupDriverMatched message)"; fi
else
  skip "a move to the other driver (needs dbus-daemon and python3-dbus)"
fi
