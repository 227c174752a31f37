#!/usr/bin/env bash
# The PodResources API of the agent beside the kubelet's own. Sourced.
own_socket=/run/trimtab/trimtab.sock kubelet_socket=/var/lib/kubelet/pod-resources/kubelet.sock
resources() { /usr/bin/python3 tests/conformance/pod_resources.py "$@"; }
same_pods() { diff <(resources "$kubelet_socket" List | cut -d ' ' -f 1) <(resources "$own_socket" List | cut -d ' ' -f 1); }
if /usr/bin/python3 -c 'import grpc' 2>/dev/null; then
  soon "List has the pods and containers of the kubelet's" same_pods
  holds "and the CPUs that the kubelet does not know of" grep -qx "default/first/app $(cpus first)" <(resources "$own_socket" List)
  holds "which it leaves out" grep -qx "default/first/app" <(resources "$kubelet_socket" List | sed 's/ $//')
  holds "Get tells the same of one" grep -qx "default/first/app $(cpus first)" <(resources "$own_socket" Get default first)
  holds "allocatable are all but the reserved one" grep -qx "$(seq -s , 1 $((all - 1)))" <(resources "$own_socket" GetAllocatableResources)
  missing() { local said; said=$(resources "$1" Get default nobody 2>&1) && return 1; echo "$said"; }
  holds "a pod that is not there gets the kubelet's words" diff <(missing "$kubelet_socket") <(missing "$own_socket")
else
  skip "PodResources (needs python3-grpcio)"
fi
