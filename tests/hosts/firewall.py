"""A firewall between the hosts of a test: connections to some ports are dropped, as most of them do."""

import shutil

from tests.hosts.machines import SEARCH, Hosts

WATCHDOGS = "32768-60999"
"""Ports that Linux gives to who asks for any. Open MPI's ranks take those from 1024 on; its launcher is told others."""
RANKS = "1024-24999"
LAUNCHER = {"PRTE_MCA_oob_tcp_dynamic_ipv4_ports": "25000-25100"}


def missing() -> str:
    """Return what stands in the way; nothing if a firewall can be had."""
    return "" if shutil.which("nft", path=SEARCH) else "nft (nftables)"


def drop(hosts: Hosts, ports: str) -> None:
    """Drop what begins a TCP connection to these ports, on all hosts."""
    rule = f"tcp dport {ports} tcp flags & (syn | ack) == syn drop"
    chain = "add table inet t; add chain inet t i { type filter hook input priority 0; }"
    for host in range(1, hosts.count + 1):
        hosts.run(host, shutil.which("nft", path=SEARCH) or "nft", f"{chain}; add rule inet t i iifname eth0 {rule}")
