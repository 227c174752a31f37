"""Starts the daemon several times and measures it from outside. Called by daemon.sh inside a throw-away node.

usage: daemon.py IDLE_SECONDS LOG COMMAND...
Prints one line per figure: name, median, unit, minimum and maximum over the runs.
"""

import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

STARTS, DRIFTS, FLUSHES = 9, 9, 5
# Drift that comes more often than this is a fight, and a fight is met slowly on purpose.
CALM = 16


def wait_until(what, holds, limit=30.0):
    """Polls a condition without a pause; returns the milliseconds it took to come true."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > limit:
            sys.exit(f"never came true: {what}")
    return (time.monotonic() - begin) * 1000


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def status_mib(pid, field):
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0


def cpu_ns(pid):
    """CPU time of all threads in nanoseconds (schedstat has no ticks to round to)."""
    tasks = os.listdir(f"/proc/{pid}/task")
    return sum(int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0]) for task in tasks)


def last_pid():
    """The process or thread id that was given out last in this PID namespace."""
    return int(read("/proc/loadavg").split()[-1])


def nat_rules():
    return subprocess.run(["iptables", "-w", "-t", "nat", "-S"], capture_output=True, text=True, check=True).stdout


def ready():
    try:
        with urllib.request.urlopen("http://127.0.0.1:9808/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def show(name, unit, values, digits=1):
    low, mid, high = min(values), statistics.median(values), max(values)
    print(f"{name:<42} {mid:>9.{digits}f} {unit} (min {low:.{digits}f}, max {high:.{digits}f}, n = {len(values)})", flush=True)


def start(command, log):
    return subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)


def stop(process):
    process.send_signal(signal.SIGTERM)
    if process.wait(timeout=20) != 0:
        sys.exit(f"the agent ended with {process.returncode}")


def rollback(command):
    arguments = [command[0], "rollback", *command[2 : command.index("--socket")]]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the rollback failed ({done.returncode}):\n{done.stdout}{done.stderr}")


def measure_starts(command, log):
    times = []
    for _ in range(STARTS):
        begin = time.monotonic()
        process = start(command, log)
        wait_until("ready", ready)
        times.append((time.monotonic() - begin) * 1000)
        if read("/proc/sys/net/core/somaxconn") != "16384" or "MASQUERADE" not in nat_rules():
            sys.exit("ready, but not applied")
        stop(process)
        rollback(command)
    show("start to everything applied", "ms", times)


def measure_drift():
    path, times = "/proc/sys/net/core/somaxconn", []
    for value in range(DRIFTS):
        time.sleep(CALM)
        write(path, str(100 + value))
        times.append(wait_until("sysctl healed", lambda: read(path) == "16384"))
    show("sysctl changed by hand to healed", "ms", times, 2)


def measure_flush():
    times = []
    for _ in range(FLUSHES):
        time.sleep(CALM)
        subprocess.run(["iptables", "-w", "-t", "nat", "-F", "IP-MASQ-AGENT"], check=True)
        times.append(wait_until("rules healed", lambda: "MASQUERADE" in nat_rules()))
    show("iptables chain flushed to healed", "ms", times)


def measure_idle(pid, seconds):
    time.sleep(10)
    cpu, processes, begin = cpu_ns(pid), last_pid(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begin
    used, spawned = cpu_ns(pid) - cpu, last_pid() - processes
    print(f"{'CPU while idle':<42} {used / took / 1e7:>9.4f} % of one core, over {took:.0f} s")
    print(f"{'processes and threads started while idle':<42} {spawned:>9}")
    resident, anonymous = status_mib(pid, "VmRSS"), status_mib(pid, "RssAnon")
    print(f"{'resident memory while idle':<42} {resident:>9.1f} MiB (anonymous {anonymous:.1f} MiB)", flush=True)


def main():
    idle, log_path, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    with open(log_path, "ab") as log:
        measure_starts(command, log)
        process = start(command, log)
        wait_until("ready", ready)
        measure_idle(process.pid, idle)
        measure_drift()
        measure_flush()
        stop(process)
        rollback(command)


main()
