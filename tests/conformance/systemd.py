"""Stands in for systemd on the system bus: units that are a command and the file with its process id.

usage: systemd.py UNIT COMMAND PIDFILE [UNIT COMMAND PIDFILE]... Timers can be started and stopped and never strike. What a machine
without systemd lacks for the agent to stop and start kubelet and runtime; it says so itself if it is asked for more.
"""

import os
import signal
import subprocess
import sys
import time

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NAME, MANAGER = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
PATH = "/org/freedesktop/systemd1"


class NoSuchUnit(dbus.DBusException):
    _dbus_error_name = NAME + ".NoSuchUnit"


def runs(pid):
    """True if there is such a process that has not ended; one that nobody has waited for yet has."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Service:
    """A unit that is a process."""

    def __init__(self, command, pidfile):
        self.command, self.pidfile = command, pidfile

    def pid(self):
        with open(self.pidfile) as file:
            return int(file.read())

    def is_active(self):
        return runs(self.pid())

    def start(self):
        if not self.is_active():
            # It writes its number and then becomes what it is to be.
            subprocess.Popen(["sh", "-c", f"echo $$ >{self.pidfile}; exec {self.command}"], start_new_session=True)
            time.sleep(0.2)

    def stop(self):
        pid, patience = self.pid(), time.monotonic() + 20
        while runs(pid):
            os.kill(pid, signal.SIGTERM if time.monotonic() < patience else signal.SIGKILL)
            time.sleep(0.2)


class Unit(dbus.service.Object):
    """What can be asked of a unit."""

    def __init__(self, bus, name, service):
        super().__init__(bus, PATH + "/unit/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in name))
        self.service, self.is_elapsing, self.since = service, False, int(time.time() * 1e6)

    def is_active(self):
        return self.service.is_active() if self.service else self.is_elapsing

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, _interface, name):
        exists = self.service is not None or self.is_elapsing
        return {
            "LoadState": "loaded" if exists else "not-found",
            "ActiveState": "active" if self.is_active() else "inactive",
            "ActiveEnterTimestamp": dbus.UInt64(self.since),
        }[name]


class Manager(dbus.service.Object):
    """The methods that move units."""

    def __init__(self, bus, services):
        super().__init__(bus, PATH)
        self.bus = bus
        self.units = {name: Unit(bus, name, service) for name, service in services.items()}

    def unit(self, name):
        if name not in self.units:
            self.units[name] = Unit(self.bus, name, None)
        return self.units[name]

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, _interface, name):
        return {"Version": "252"}[name]

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def LoadUnit(self, name):
        return self.unit(name)

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StartUnit(self, name, _mode):
        unit = self.unit(name)
        if unit.service is None:
            raise NoSuchUnit(f"Unit {name} not found.")
        unit.service.start()
        unit.since = int(time.time() * 1e6)
        print("started", name, flush=True)
        return unit

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, _mode):
        unit = self.unit(name)
        if unit.service is not None:
            unit.service.stop()
            print("stopped", name, flush=True)
        elif not unit.is_elapsing:
            raise NoSuchUnit(f"Unit {name} not loaded.")
        unit.is_elapsing = False
        return unit

    @dbus.service.method(MANAGER, in_signature="ssa(sv)a(sa(sv))", out_signature="o")
    def StartTransientUnit(self, name, _mode, _properties, _others):
        unit = self.unit(name)
        unit.is_elapsing = True
        return unit


def main():
    DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection("unix:path=/run/dbus/system_bus_socket")
    given = sys.argv[1:]
    services = {given[at]: Service(given[at + 1], given[at + 2]) for at in range(0, len(given), 3)}
    manager = Manager(bus, services)
    bus.request_name(NAME)
    print("ready", len(manager.units), flush=True)
    GLib.MainLoop().run()


main()
