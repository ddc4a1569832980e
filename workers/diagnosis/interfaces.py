"""The network interfaces of this host, by the kernel: names, IPv4 addresses, speeds, bytes sent."""

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.addresses import BRIDGES
from workers.diagnosis.facts import Interface

SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B
"""Requests of linux/sockios.h; they ask the network namespace of the process, where /sys may show another one."""
IFF_UP = 1


def look() -> list[Interface]:
    """Return this host's interfaces but for the loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            if name == "lo":
                continue
            flags = _ask(probe, SIOCGIFFLAGS, name)
            up = bool(flags and struct.unpack("H", flags[16:18])[0] & IFF_UP)
            found.append(
                Interface(name=name, address=_address(probe, name), up=up, mbit=_speed(name), bridge=_is_bridge(name))
            )
    return found


def _ask(probe: socket.socket, request: int, name: str) -> bytes:
    try:
        return fcntl.ioctl(probe.fileno(), request, struct.pack("256s", name.encode()[:15]))
    except OSError:
        return b""


def _address(probe: socket.socket, name: str) -> str:
    address, mask = (_ask(probe, request, name)[20:24] for request in (SIOCGIFADDR, SIOCGIFNETMASK))
    if len(address) < 4:
        return ""
    bits = bin(int.from_bytes(mask, "big")).count("1") if len(mask) == 4 else 32
    return f"{socket.inet_ntoa(address)}/{bits}"


def _speed(name: str) -> int:
    """Return Mbit/s; 0 if the driver does not say."""
    with contextlib.suppress(OSError, ValueError):
        return max(0, int(Path("/sys/class/net", name, "speed").read_text(encoding="ascii")))
    return 0


def _is_bridge(name: str) -> bool:
    return name.startswith(BRIDGES) or Path("/sys/class/net", name, "bridge").is_dir()


def sent_bytes(path: str = "/proc/self/net/dev") -> dict[str, int]:
    """Return the bytes that each interface has sent since it is there."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            name, colon, numbers = line.partition(":")
            fields = numbers.split()
            if colon and len(fields) > 8:
                found[name.strip()] = int(fields[8])
    return found


def with_sent(interfaces: Sequence[Interface], before: dict[str, int], after: dict[str, int]) -> list[Interface]:
    """Return them with the bytes sent between two looks."""
    return [replace(one, sent=after.get(one.name, 0) - before.get(one.name, 0)) for one in interfaces]


def network(address: str) -> str:
    """Return the network of an address, ``10.0.0.0/24``; nothing without one."""
    return str(ipaddress.ip_interface(address).network) if address else ""
