"""A device's network: a namespace of its own and one cable to this machine.

Addresses come from 198.18.0.0/15, which RFC 2544 reserves for tests of network devices and which
no real network uses. A device has no default route, so it reaches nothing but this machine.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from pathlib import Path

from .host import LabError, read_command, run

INTERFACE_PREFIX = "ekl"
_SUBNETS = ipaddress.IPv4Network("198.18.0.0/15")
# Marks the one route of ours in the kernel's table (any number that no routing daemon has).
_ROUTE_PROTOCOL = "213"


@dataclass(frozen=True)
class Link:
    """The cable: `host_interface` here, `eth0` in the namespace."""

    namespace: str
    host_interface: str
    host_address: str
    address: str


def add_guard_route() -> None:
    """Answer "unreachable" for addresses of devices that are gone.

    Without it a packet for a removed device would leave by the machine's default route.
    """
    run(*_guard_route("replace"))


def remove_guard_route() -> None:
    run(*_guard_route("del"), check=False)


def _guard_route(verb: str) -> tuple[str, ...]:
    where = ("unreachable", str(_SUBNETS), "metric", "4096", "proto", _ROUTE_PROTOCOL)
    return ("ip", "route", verb, *where)


def connect(namespace: str) -> Link:
    """Create the namespace and plug it in at the first free address pair."""
    run("ip", "netns", "add", namespace)
    for slot, subnet in enumerate(_SUBNETS.subnets(new_prefix=30)):
        interface = f"{INTERFACE_PREFIX}{slot}"
        if Path("/sys/class/net", interface).exists():
            continue
        made = run(
            *("ip", "link", "add", interface, "type", "veth"),
            *("peer", "name", "eth0", "netns", namespace),
            check=False,
        )
        if made.returncode == 0:
            host_address, address = (str(host) for host in subnet.hosts())
            link = Link(namespace, interface, host_address, address)
            _configure(link)
            return link
        if "File exists" not in made.stderr:
            raise LabError(f"no cable for {namespace}: {made.stderr.strip()}")
    raise LabError(f"no free address left in {_SUBNETS}")


def _configure(link: Link) -> None:
    # No IPv6: its discovery packets would be traffic that nobody asked for.
    switch = Path(f"/proc/sys/net/ipv6/conf/{link.host_interface}/disable_ipv6")
    if switch.exists():
        switch.write_text("1")
    run("ip", "addr", "add", f"{link.host_address}/30", "dev", link.host_interface)
    run("ip", "link", "set", link.host_interface, "up")
    inside = ("ip", "-n", link.namespace)
    run(*inside, "addr", "add", f"{link.address}/30", "dev", "eth0")
    run(*inside, "link", "set", "lo", "up")
    restore(link)


def cut(link: Link) -> None:
    """Pull the plug on the device's side: packets vanish, no side is told.

    The host's side stays up, so that its route stays and nothing takes another way.
    """
    run("ip", "-n", link.namespace, "link", "set", "eth0", "down")


def restore(link: Link) -> None:
    run("ip", "-n", link.namespace, "link", "set", "eth0", "up")


def cap(link: Link, mbit_per_s: float) -> None:
    """Limit both directions by a token bucket (tc-tbf(8))."""
    rate = f"{int(mbit_per_s * 1000)}kbit"
    bucket = ("root", "tbf", "rate", rate, "burst", "32kb", "latency", "400ms")
    run("tc", "qdisc", "replace", "dev", link.host_interface, *bucket)
    run("tc", "-n", link.namespace, "qdisc", "replace", "dev", "eth0", *bucket)


def uncap(link: Link) -> None:
    run("tc", "qdisc", "del", "dev", link.host_interface, "root", check=False)
    run("tc", "-n", link.namespace, "qdisc", "del", "dev", "eth0", "root", check=False)


def disconnect(namespace: str) -> None:
    """Remove the namespace; the cable goes with it once its last process is gone."""
    for pid in read_command(["ip", "netns", "pids", namespace]):
        run("kill", "-9", pid, check=False)
    run("ip", "netns", "del", namespace, check=False)


def wait_gone(link: Link, timeout_s: float = 10) -> None:
    """The kernel removes a namespace's interfaces some time after the namespace."""
    deadline = time.monotonic() + timeout_s
    while Path("/sys/class/net", link.host_interface).exists():
        if time.monotonic() > deadline:
            run("ip", "link", "del", link.host_interface, check=False)
            return
        time.sleep(0.02)
