"""The address under which limits count a peer.

Knows addresses; no connection.
"""

from __future__ import annotations

import ipaddress

IPV6_NETWORK = 64  # bits: a machine with one address of such a network can have all of them


def client_network(host: str) -> str:
    """Return an IPv4 address as it is, an IPv6 one as its /64 network, any other text as it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_NETWORK), strict=False))
    return str(address)
