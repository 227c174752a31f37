"""Measures masquerading from outside. Called by masquerade.sh inside a throw-away network and PID namespace.

usage: masquerade.py all BINARY FOLDER IDLE_SECONDS
       masquerade.py flows RULES_FILE PROGRAM...     (in a network namespace of its own; PROGRAM loads the rules)
Figures of kubernetes-sigs/ip-masq-agent 2.12 beside ours are recorded ones, measured elsewhere on such a machine
(two cores, Linux 6.18, iptables 1.8.9), not run again here.
"""

import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.request

BACKENDS = ("iptables-nft", "iptables-legacy", "nftables")
SIZES = (4, 64, 1000)
SYNCS, HEALS = 6, 3
FLOW_SIZES, FLOWS, ROUNDS = (10, 1000, 10000), 2000, 5
HTTP = "http://127.0.0.1:9808"
# Median wall time of a pass by number of prefixes, and what a pass is made of.
RECORDED_PASS = {"iptables-nft": {4: 17, 64: 17, 1000: 48}, "iptables-legacy": {4: 3.6, 64: 4.1, 1000: 16}}


def cidrs(count, first):
    """Prefixes of 256 addresses that neither touch nor hold each other."""
    return [f"{first + (i >> 15)}.{i >> 7 & 255}.{i << 1 & 255}.0/24" for i in range(count)]


def generation():
    """The number of nf_tables' rule set in this namespace (NFT_MSG_GETGEN); starts no process."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        netlink.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 0, 0, 0, 0, 0))
        return struct.unpack_from("!I", netlink.recv(4096), 24)[0]


def get(path):
    try:
        with urllib.request.urlopen(HTTP + path, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def metric(name):
    """The sum of a metric of the masquerade subsystem over its other labels."""
    lines = (line for line in get("/metrics").splitlines() if line.startswith(name + "{") and 'subsystem="masquerade"' in line)
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def wait_until(what, holds, limit=60.0):
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > limit:
            sys.exit(f"never came true: {what}")
    return (time.monotonic() - begin) * 1000


def last_pid():
    """The process or thread id that was given out last in this PID namespace."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[-1])


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:"))


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def show(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


class Agent:
    """The daemon with one back end."""

    def __init__(self, binary, folder, backend, addresses):
        self.binary, self.folder, self.backend = binary, folder, backend
        self.write(addresses)
        arguments = [*self.arguments(), "--socket", f"{folder}/socket", "--http", "127.0.0.1:9808"]
        with open(f"{folder}/log", "ab") as log:
            self.process = subprocess.Popen([binary, "run", *arguments], stderr=log, stdin=subprocess.DEVNULL)
        wait_until("ready", lambda: get("/readyz"))

    def arguments(self):
        profile, state = f"{self.folder}/profile.yaml", f"{self.folder}/state"
        return ["--profile", profile, "--state-dir", state, "--node-name", "bench"]

    def write(self, addresses):
        """Replaces the profile by rename, as a ConfigMap does; tells when."""
        with open(f"{self.folder}/new", "w", encoding="ascii") as file:
            file.write(
                "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {name: bench}\nspec:\n  ipMasq:\n"
                f"    backend: {self.backend}\n    cidrLimit: 4096\n    nonMasqueradeCIDRs: [{', '.join(addresses)}]\n"
            )
        begin = time.monotonic()
        os.rename(f"{self.folder}/new", f"{self.folder}/profile.yaml")
        return begin

    def rules(self):
        if self.backend == "nftables":
            return run("nft", "list", "table", "ip", "trimtab-masq")
        return run(f"{self.backend}-save", "-t", "nat")

    def check(self, addresses):
        if addresses[-1] not in self.rules():
            sys.exit(f"{self.backend}: {addresses[-1]} is not among the rules")

    def settle(self):
        """Waits until no pass has ended for a tenth of a second."""
        passes, since = metric("trimtab_passes_total"), time.monotonic()
        while time.monotonic() - since < 0.1:
            if (now := metric("trimtab_passes_total")) != passes:
                passes, since = now, time.monotonic()

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=20) != 0:
            sys.exit(f"the agent ended with {self.process.returncode}")
        run(self.binary, "rollback", *self.arguments())


def measure_syncs(agent, size):
    """Milliseconds from a new profile to the kernel's having it, milliseconds spent in passes for it, processes."""
    visible, passes, processes = [], [], []
    for turn in range(SYNCS):
        addresses = cidrs(size, 40 + turn % 2 * 20)
        agent.settle()
        before, pids = (metric("trimtab_pass_duration_seconds_sum"), metric("trimtab_steps_total")), last_pid()
        number = generation()
        begin = agent.write(addresses)
        if agent.backend == "iptables-legacy":
            wait_until("synced", lambda: metric("trimtab_steps_total") > before[1])
        else:
            wait_until("synced", lambda: generation() != number)
        visible.append((time.monotonic() - begin) * 1000)
        wait_until("reported", lambda: metric("trimtab_steps_total") > before[1])
        agent.settle()
        passes.append((metric("trimtab_pass_duration_seconds_sum") - before[0]) * 1000)
        processes.append(last_pid() - pids)
        agent.check(addresses)
    return visible, passes, processes, addresses


def measure_heals(agent, addresses):
    """Milliseconds between the kernel's having the flush and its having the rules again."""
    flush = ["iptables-nft", "-w", "-t", "nat", "-F"]
    if agent.backend == "nftables":
        flush = ["nft", "flush table ip trimtab-masq; flush set ip trimtab-masq exempt"]
    times = []
    for _ in range(HEALS):
        agent.settle()
        number = generation()
        with subprocess.Popen(flush):
            # Each of the two is one transaction.
            wait_until("flushed", lambda: generation() != number)
            times.append(wait_until("healed", lambda: generation() >= number + 2))
        agent.settle()
        agent.check(addresses)
    return times


def measure_idle(agent, seconds):
    agent.settle()
    before = last_pid()
    time.sleep(seconds)
    return last_pid() - before


def measure_agent(binary, folder, idle):
    print("| back end | CIDRs | profile to kernel, ms | in passes, ms | processes | flushed to healed, ms | recorded pass, ms |")
    print("|---|---|---|---|---|---|---|")
    rest = []
    for backend in BACKENDS:
        for size in SIZES:
            agent = Agent(binary, folder, backend, cidrs(size, 80))
            visible, passes, processes, addresses = measure_syncs(agent, size)
            heals = "next resync" if backend == "iptables-legacy" else show(measure_heals(agent, addresses))
            recorded = RECORDED_PASS.get(backend, {}).get(size, "–")
            print(f"| {backend} | {size} | {show(visible)} | {show(passes)} | {show(processes, 0)} | {heals} | {recorded} |", flush=True)
            if size == SIZES[-1]:
                keep_rules(agent, folder)
                spawned = measure_idle(agent, idle)
                rest.append(f"| {backend} | {spawned} | {resident_mib(agent.process.pid):.1f} |")
            agent.close()
    print(f"\n| back end, 1,000 CIDRs | processes and threads started while idle for {idle} s | resident, MiB |\n|---|---|---|")
    print("\n".join([*rest, "| recorded: kubernetes-sigs' agent | 3 per pass and family, 180 an hour | 11.5–16.7 |"]), flush=True)


def keep_rules(agent, folder):
    with open(f"{folder}/{agent.backend}.rules", "w", encoding="ascii") as file:
        file.write(agent.rules())


def with_list(backend, text, addresses):
    """The rules that the agent wrote, with another list."""
    if backend == "nftables":
        # Priorities are printed as numbers by old releases and as names by new ones; both are read back.
        return re.sub(r"elements = \{[^}]*\}", "elements = { " + ", ".join(addresses) + " }", text)
    exempt = re.compile(r"^(-A IP-MASQ-AGENT -d )[4-9]\d\.\S+( .*)$", re.MULTILINE)
    one = exempt.search(text)
    listed = "".join(f"{one[1]}{address}{one[2]}\n" for address in addresses)
    return text[: one.start()] + listed + exempt.sub("", text[one.start() :]).lstrip("\n")


def measure_flows(folder):
    """Each in a namespace of its own: the kernel remembers flows."""
    print(f"\n| cost of a new flow, µs (lowest of {ROUNDS} x {FLOWS}) | " + " | ".join(f"{size:,} CIDRs" for size in FLOW_SIZES) + " | ratio |")
    print("|---" * (len(FLOW_SIZES) + 2) + "|")
    for backend in BACKENDS:
        with open(f"{folder}/{backend}.rules", encoding="ascii") as file:
            text = file.read()
        costs = []
        for size in FLOW_SIZES:
            with open(f"{folder}/flows", "w", encoding="ascii") as file:
                file.write(with_list(backend, text, cidrs(size, 40)))
            load = ["nft", "-f"] if backend == "nftables" else [f"{backend}-restore"]
            costs.append(float(run("unshare", "--net", sys.executable, __file__, "flows", f"{folder}/flows", *load)))
        kind = "interval set" if backend == "nftables" else "rule chain"
        print(f"| {backend} ({kind}) | " + " | ".join(f"{cost:.1f}" for cost in costs) + f" | {costs[-1] / costs[0]:.1f} |", flush=True)
    print("| recorded: iptables-nft; nftables set | – | 65; 25 | 594; 20 | |")


def flows(rules, load):
    """Prints the microseconds that the first packet of a flow to an address outside the list takes to be sent."""
    run("ip", "link", "add", "out", "type", "veth", "peer", "name", "away")
    run("ip", "address", "add", "192.0.2.1/24", "dev", "out")
    for name in ("lo", "out", "away"):
        run("ip", "link", "set", name, "up")
    # A neighbour that nobody is: the packets end at the other end of the pair.
    run("ip", "neighbour", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", "out", "nud", "permanent")
    run("ip", "route", "add", "default", "via", "192.0.2.2")
    run(*load, rules)
    lowest = float("inf")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        # A packet ahead of them fills the caches of route and rules.
        sender.sendto(b"x", ("100.0.0.1", 9))
        for turn in range(ROUNDS):
            targets = [(f"100.{1 + turn}.{i >> 8}.{i & 255}", 9) for i in range(FLOWS)]
            begin = time.perf_counter()
            for target in targets:
                sender.sendto(b"x", target)
            lowest = min(lowest, (time.perf_counter() - begin) / FLOWS * 1e6)
    print(lowest)


def main():
    if sys.argv[1] == "flows":
        flows(sys.argv[2], sys.argv[3:])
        return
    binary, folder, idle = sys.argv[2], sys.argv[3], int(sys.argv[4])
    measure_agent(binary, folder, idle)
    measure_flows(folder)


main()
