"""What to look at where a start fails in the first messages between hosts: which networks this one has."""

from common.addresses import BRIDGES, own_interfaces

MOST_SHOWN = 6
VARIABLES = (
    ("Open MPI", "OMPI_MCA_btl_tcp_if_include={0} PRTE_MCA_prte_if_include={0}"),
    ("MPICH", "FI_TCP_IFACE={0} UCX_NET_DEVICES={0} HYDRA_IFACE={0}"),
)
"""Of MPICH those for OFI and for UCX: which of them it was built with is not known here."""


def network_hint(host: str) -> str:
    """Return words to put behind a message: the networks of this host, and the variables that choose one."""
    found = own_interfaces()
    first = next((name for name, _ in found if not name.startswith(BRIDGES)), "")
    if len(found) < 2 or not first:
        return "; a firewall may be between the hosts: allow TCP from one to the other; rankwise doctor tells more"
    shown = ", ".join(f"{name} {address}" for name, address in found[:MOST_SHOWN])
    lines = ", ".join(f"with {library} export {line.format(first)}" for library, line in VARIABLES)
    return (
        f"; MPI may have taken a network that leads nowhere: {host} has {shown}; "
        f"if the hosts reach each other by {first}: {lines}"
    )
