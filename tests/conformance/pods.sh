#!/usr/bin/env bash
# Pods of the Node `own`, made through the API server, and where the kernel lets them run. Sourced.

# pod NAME RESOURCES [NAMESPACE]: one container on the network of the node, with these resources as JSON.
pod() { pod_text "$@" | admin apply --server-side -f - >/dev/null; }
pod_text() {
  printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","namespace":"%s"},"spec":{"hostNetwork":true,"nodeName":"own","terminationGracePeriodSeconds":1,"containers":[{"name":"app","image":"localhost/app:1","imagePullPolicy":"Never","command":["sleep","2147483647"],"resources":%s}]}}' \
    "$1" "${3:-default}" "$2"
}
# exclusively CPUS: resources of a pod that is Guaranteed whole CPUs.
exclusively() { printf '{"limits":{"cpu":"%s","memory":"32Mi"}}' "$1"; }
# gone NAME: it is deleted, and the API server knows it no more.
gone() { admin delete pod "$1" --wait=false --ignore-not-found >/dev/null; within 60 absent pod "$1"; }
absent() { ! admin get "$1" "$2"; }

phase() { field pod "$1" '{.status.phase}'; }
runs() { is pod "$1" '{.status.containerStatuses[0].ready}' true; }
run_id() { field pod "$1" '{.status.containerStatuses[0].containerID}' | sed 's|.*/||'; }
# process NAME: the first process of its container.
process() {
  local id; id=$(run_id "$1")
  [ -n "$id" ] && find /sys/fs/cgroup -path "*$pods_root*$id/cgroup.procs" -exec head -qn 1 {} \; 2>/dev/null | grep -m 1 .
}
# cpus NAME: where the kernel lets it run, one CPU per line.
cpus() {
  local process
  process=$(process "$1") && [ -n "$process" ] || return 1
  sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$process/status" | tr , '\n' | while IFS=- read -r from to; do seq "$from" "${to:-$from}"; done
}
# has COUNT NAME: it runs on so many CPUs.
has() { [ "$(cpus "$2" | wc -l)" = "$1" ]; }
# apart NAME NAME: no CPU is in both.
apart() { [ -n "$(cpus "$1")" ] && [ -n "$(cpus "$2")" ] && [ -z "$(sort <(cpus "$1") <(cpus "$2") | uniq -d)" ]; }
# unchanged FILE NAME...: all of these pods run, with process and CPUs as noted in the file; note FILE NAME... notes them.
note() { local file=$1; shift; for name; do echo "$name $(process "$name") $(cpus "$name" | tr '\n' ' ')"; done >"$file"; }
unchanged() { local file=$1; shift; ! grep -x '[a-z-]* *' "$file" && diff "$file" <(note /dev/stdout "$@"); }
