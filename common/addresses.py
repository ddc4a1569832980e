"""The addresses of this machine, by which another one may reach it."""

import fcntl
import socket
import struct
from pathlib import Path

SIOCGIFADDR = 0x8915
"""Of linux/sockios.h: the IPv4 address of an interface."""
IPV6 = Path("/proc/net/if_inet6")
GLOBAL = "00"
"""The scope of addresses that mean the same everywhere."""
BRIDGES = ("docker", "br-", "virbr", "cni", "lxcbr", "podman")
"""How names of bridges begin that containers and virtual machines of one host are on."""
LONGEST_NAME = 15
"""Bytes of an interface's name."""


def own_addresses() -> list[str]:
    """Return the addresses of all interfaces but the loopback, as text: IPv4 first, then IPv6."""
    return [*(address for _, address in own_interfaces()), *_ipv6()]


def own_interfaces() -> list[tuple[str, str]]:
    """Return the names of all interfaces but the loopback, each with its IPv4 address."""
    found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _, name in socket.if_nameindex():
                try:
                    request = struct.pack("256s", name.encode()[:LONGEST_NAME])
                    address = socket.inet_ntoa(fcntl.ioctl(sock.fileno(), SIOCGIFADDR, request)[20:24])
                    found.append((name, address))
                except OSError:  # it has none
                    continue
    except OSError:
        return []
    return [(name, address) for name, address in found if not address.startswith("127.")]


def _ipv6() -> list[str]:
    try:
        lines = [line.split() for line in IPV6.read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    packed = [bytes.fromhex(fields[0]) for fields in lines if len(fields) > 3 and fields[3] == GLOBAL]
    return [socket.inet_ntop(socket.AF_INET6, address) for address in packed if len(address) == 16]
