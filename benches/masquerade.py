"""Measures masquerading from outside. Called by masquerade.sh inside a throw-away network and PID namespace.

usage: masquerade.py all BINARY FOLDER IDLE_SECONDS [PEER]
       masquerade.py flows RULES_FILE PROGRAM...     (in a network namespace of its own; PROGRAM loads the rules)
PEER is the program of kubernetes-sigs/ip-masq-agent, run on the same lists; without it its figures are left out.
"""

import os
import re
import shutil
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
# Rounds of new flows; short ones, so that few of them are disturbed.
FLOW_SIZES, FLOWS, ROUNDS = (4, 1000, 10000), 100, 100
HTTP = "http://127.0.0.1:9808"
# Where the peer reads its list, and how long it is watched while it makes one pass after the other.
PEER_CONFIG, PEER_SECONDS, PEER_HEALS = "/etc/config/ip-masq-agent", 10, 3


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
    print("| back end | CIDRs | profile to kernel, ms | in passes, ms | processes | flushed to healed, ms |")
    print("|---|---|---|---|---|---|")
    rest = []
    for backend in BACKENDS:
        for size in SIZES:
            agent = Agent(binary, folder, backend, cidrs(size, 80))
            visible, passes, processes, addresses = measure_syncs(agent, size)
            heals = "next resync" if backend == "iptables-legacy" else show(measure_heals(agent, addresses))
            print(f"| {backend} | {size} | {show(visible)} | {show(passes)} | {show(processes, 0)} | {heals} |", flush=True)
            if size == SIZES[-1]:
                keep_rules(agent, folder)
                spawned = measure_idle(agent, idle)
                rest.append(f"| {backend} | {spawned} | {resident_mib(agent.process.pid):.1f} |")
            agent.close()
    print(f"\n| back end, 1,000 CIDRs | processes and threads started while idle for {idle} s | resident, MiB |\n|---|---|---|")
    print("\n".join(rest), flush=True)


class Peer:
    """ip-masq-agent of kubernetes-sigs on one back end."""

    def __init__(self, program, folder, backend, addresses, interval):
        tools = f"{folder}/tools-{backend}"
        os.makedirs(tools, exist_ok=True)
        # It finds its tools through PATH.
        for name in ("iptables", "iptables-save", "iptables-restore"):
            if not os.path.lexists(f"{tools}/{name}"):
                os.symlink(shutil.which(name.replace("iptables", backend)), f"{tools}/{name}")
        self.backend = backend
        self.write(addresses, interval)
        with open(f"{folder}/peer.log", "ab") as log:
            environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
            self.process = subprocess.Popen([program], stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self.await_rules(addresses)

    def write(self, addresses, interval):
        """Replaces its list by rename: it reads at any time."""
        with open(f"{PEER_CONFIG}.new", "w", encoding="ascii") as file:
            file.write(f"cidrLimit: 4096\nresyncInterval: {interval}\nnonMasqueradeCIDRs: [{', '.join(addresses)}]\n")
        os.rename(f"{PEER_CONFIG}.new", PEER_CONFIG)

    def await_rules(self, addresses):
        # Releases before 2.11 keep to a minute before their second pass, whatever the file says.
        wait_until("the peer's rules", lambda: addresses[-1] in self.rules(), 90.0)

    def rules(self):
        return run(f"{self.backend}-save", "-t", "nat")

    def close(self):
        self.process.kill()
        self.process.wait()
        run(self.backend, "-w", "-t", "nat", "-F")
        run(self.backend, "-w", "-t", "nat", "-X")


def measure_peer(program, folder, idle):
    print("\n| kubernetes-sigs' agent | CIDRs | a pass, ms (one after the other, mean) |\n|---|---|---|")
    os.makedirs(os.path.dirname(PEER_CONFIG), exist_ok=True)
    for backend in BACKENDS[:2]:
        peer = Peer(program, folder, backend, cidrs(1, 40), "0s")
        for size in SIZES:
            addresses = cidrs(size, 60)
            peer.write(addresses, "0s")
            peer.await_rules(addresses)
            before, begin = last_pid(), time.monotonic()
            time.sleep(PEER_SECONDS)
            passed = (time.monotonic() - begin) * 1000
            # Each pass starts three processes, and nothing else does here; threads of its runtime are few.
            passes = (last_pid() - before) / 3
            print(f"| {backend} | {size} | {passed / passes:.1f} |", flush=True)
        peer.close()
    peer = Peer(program, folder, BACKENDS[0], cidrs(SIZES[-1], 40), "60s")
    before = last_pid()
    time.sleep(idle)
    spawned, resident, times = last_pid() - before, resident_mib(peer.process.pid), []
    for _ in range(PEER_HEALS):
        run(BACKENDS[0], "-w", "-t", "nat", "-F")
        number = generation()
        times.append(wait_until("healed by the peer", lambda: generation() != number, 90.0) / 1000)
        # Flushes come at any time, not right behind a pass.
        time.sleep(17)
    peer.close()
    print(f"\nIdle for {idle} s with {SIZES[-1]:,} CIDRs and its interval of 60 s: {spawned} processes, {resident:.1f} MiB "
          f"resident; flushed to healed {show(times)} s", flush=True)


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
    print(f"\n| cost of a new flow, µs of CPU (median of {ROUNDS} x {FLOWS}; lowest) | " + " | ".join(f"{size:,} CIDRs" for size in FLOW_SIZES) + " | ratio |")
    print("|---" * (len(FLOW_SIZES) + 2) + "|")
    for backend in BACKENDS:
        with open(f"{folder}/{backend}.rules", encoding="ascii") as file:
            text = file.read()
        costs = []
        for size in FLOW_SIZES:
            with open(f"{folder}/flows", "w", encoding="ascii") as file:
                file.write(with_list(backend, text, cidrs(size, 40)))
            load = ["nft", "-f"] if backend == "nftables" else [f"{backend}-restore"]
            printed = run("unshare", "--net", sys.executable, __file__, "flows", f"{folder}/flows", *load)
            costs.append([float(word) for word in printed.split()])
        kind = "interval set" if backend == "nftables" else "rule chain"
        print(f"| {backend} ({kind}) | " + " | ".join(f"{median:.1f}; {lowest:.1f}" for median, lowest in costs) + f" | {costs[-1][0] / costs[0][0]:.1f} |", flush=True)


def flows(rules, load):
    """Prints the CPU microseconds that the first packet of a flow to an address outside the list takes to be sent."""
    run("ip", "link", "add", "out", "type", "veth", "peer", "name", "away")
    run("ip", "address", "add", "192.0.2.1/24", "dev", "out")
    for name in ("lo", "out", "away"):
        run("ip", "link", "set", name, "up")
    # A neighbour that nobody is: the packets end at the other end of the pair.
    run("ip", "neighbour", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", "out", "nud", "permanent")
    run("ip", "route", "add", "default", "via", "192.0.2.2")
    run(*load, rules)
    costs = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        # A packet ahead of them fills the caches of route and rules.
        sender.sendto(b"x", ("100.0.0.1", 9))
        for turn in range(ROUNDS):
            targets = [(f"100.{1 + turn}.{i >> 8}.{i & 255}", 9) for i in range(FLOWS)]
            # Of this thread, in which the rules run: what else the machine does does not count.
            begin = time.thread_time_ns()
            for target in targets:
                sender.sendto(b"x", target)
            costs.append((time.thread_time_ns() - begin) / FLOWS / 1000)
    with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="ascii") as file:
        if int(file.read()) < FLOWS * ROUNDS:
            sys.exit("not all flows passed the rules")
    print(statistics.median(costs), min(costs))


def main():
    if sys.argv[1] == "flows":
        flows(sys.argv[2], sys.argv[3:])
        return
    binary, folder, idle, peer = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]
    measure_agent(binary, folder, idle)
    measure_flows(folder)
    for program in peer:
        measure_peer(program, folder, idle)


main()
