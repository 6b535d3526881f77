"""How many connections this process can have open.

Knows the operating system's limit; no connection.
"""

from __future__ import annotations

from stillframe.transport.bounds import MOST_CONNECTIONS, MOST_WAITING, SPARE_DESCRIPTORS

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]


def connections_affordable() -> tuple[int, int]:
    """Raise this process's limit of descriptors as far as it may be, and share it out.

    Return how many connections that is enough for, and how many more that only wait for their end.
    """
    if resource is None:
        return MOST_CONNECTIONS, MOST_WAITING
    wanted = MOST_CONNECTIONS + MOST_WAITING + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS, MOST_WAITING
    connections = max(1, min(MOST_CONNECTIONS, soft - SPARE_DESCRIPTORS))
    return connections, max(0, min(MOST_WAITING, soft - SPARE_DESCRIPTORS - connections))
