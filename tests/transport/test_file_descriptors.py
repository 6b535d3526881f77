from __future__ import annotations

import pytest

from stillframe.transport import file_descriptors
from stillframe.transport.bounds import MAX_CONNECTIONS, MAX_TARPITTED, SPARE_DESCRIPTORS

ENOUGH = MAX_CONNECTIONS + MAX_TARPITTED + SPARE_DESCRIPTORS


class Limits:
    """The system's limits, as `resource` has them."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def __init__(self, soft: int, hard: int):
        self.now = (soft, hard)

    def getrlimit(self, _: int) -> tuple[int, int]:
        """What they are."""
        return self.now

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        """What they become."""
        self.now = limits


@pytest.mark.parametrize(
    ("limits", "raised", "most"),
    [
        ((ENOUGH + 1, ENOUGH + 1), (ENOUGH + 1, ENOUGH + 1), (MAX_CONNECTIONS, MAX_TARPITTED)),
        ((256, 100_000), (ENOUGH, 100_000), (MAX_CONNECTIONS, MAX_TARPITTED)),
        ((256, -1), (ENOUGH, -1), (MAX_CONNECTIONS, MAX_TARPITTED)),
        ((256, 2000), (2000, 2000), (MAX_CONNECTIONS, 2000 - SPARE_DESCRIPTORS - MAX_CONNECTIONS)),
        ((256, 512), (512, 512), (512 - SPARE_DESCRIPTORS, 0)),
        ((10, 10), (10, 10), (1, 0)),
        ((-1, -1), (-1, -1), (MAX_CONNECTIONS, MAX_TARPITTED)),
    ],
)
def test_as_many_connections_as_descriptors_suffice_for(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int], most: tuple[int, int]
) -> None:
    """The soft limit is raised as far as it is needed and may be; what is left over stays for files."""
    system = Limits(*limits)
    monkeypatch.setattr(file_descriptors, "resource", system)

    assert file_descriptors.connection_capacity() == most
    assert system.now == raised


def test_without_such_limits_there_are_as_many_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setattr(file_descriptors, "resource", None)

    assert file_descriptors.connection_capacity() == (MAX_CONNECTIONS, MAX_TARPITTED)
