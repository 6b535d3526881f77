"""Whom a limit counts the other end of a connection as.

Knows addresses; no connection.
"""

from __future__ import annotations

import ipaddress

IPV6_NETWORK = 64  # bits: a machine with one address of such a network can have all of them


def address_of(host: str) -> str:
    """An IPv4 address as it is, an IPv6 one by its network of 64 bits; what is no address as it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_NETWORK), strict=False))
    return str(address)
