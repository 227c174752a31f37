#!/usr/bin/env bash
# Node allocatable as the agent computes it, beside what the kubelet computes with the same settings. Sourced.

# same_allocatable: all that the agent's table names and the Node has is the same amount.
same_allocatable() {
  admin get node own -o json >"$work/node.json"
  "$trimtab" status -o json >"$work/status.json"
  python3 - "$work/node.json" "$work/status.json" <<'PYTHON'
import json, re, sys
node = json.load(open(sys.argv[1]))["status"]
status = json.load(open(sys.argv[2]))
def amount(text):
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text).groups()
    return float(number) * {"": 1, "m": 0.001, "k": 1e3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]
rows = [o for s in status["subsystems"] if s["name"] == "allocatable" for o in s["objects"]]
rows = {o["object"].split()[1]: o for o in rows if o["object"].startswith("allocatable ")}
common = sorted(rows.keys() & node["allocatable"].keys())
wrong = []
for name in common:
    for whose, mine, theirs in (("allocatable", rows[name]["observed"], node["allocatable"][name]), ("capacity", rows[name]["attributes"]["capacity"], node["capacity"][name])):
        if amount(mine) != amount(theirs):
            wrong.append(f"{whose} of {name}: {mine} here, {theirs} in the Node")
if not {"cpu", "memory", "ephemeral-storage"} <= set(common):
    wrong.append(f"only {common} are told by both")
print(*wrong, sep="; ")
sys.exit(bool(wrong))
PYTHON
}
# the bound of the cgroup of all pods, which the kubelet sets.
pods_bound() {
  local memory=/sys/fs/cgroup/memory/$pods_root/kubepods/memory.limit_in_bytes
  [ -e "$memory" ] || memory=/sys/fs/cgroup/$pods_root/kubepods/memory.max
  cat "$memory"
}
same_bound() {
  local told
  told=$(answer '[o["attributes"]["pods'"'"' cgroup"] for s in a["subsystems"] for o in s["objects"] if o["object"] == "allocatable memory"][0]' status)
  [ "$told" = "$(($(pods_bound) / 1024))Ki" ] || { echo "$told, and $(pods_bound) bytes in the kernel"; return 1; }
}
holds "allocatable is what the kubelet says" same_allocatable
holds "and the bound of all pods what the kubelet has set" same_bound
