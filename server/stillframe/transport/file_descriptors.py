"""How many connections this process can have open, by its limit of file descriptors.

Knows the operating system's limit; no connection.
"""

from __future__ import annotations

from stillframe.transport.bounds import MAX_CONNECTIONS, MAX_TARPITTED, SPARE_DESCRIPTORS

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]


def connection_capacity() -> tuple[int, int]:
    """Raise this process's limit of file descriptors as far as allowed, and divide it.

    Return the number of connections, and of tarpitted ones beside them.
    """
    if resource is None:
        return MAX_CONNECTIONS, MAX_TARPITTED
    wanted = MAX_CONNECTIONS + MAX_TARPITTED + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS, MAX_TARPITTED
    connections = max(1, min(MAX_CONNECTIONS, soft - SPARE_DESCRIPTORS))
    return connections, max(0, min(MAX_TARPITTED, soft - SPARE_DESCRIPTORS - connections))
