from __future__ import annotations

import pytest

from stillframe.web.middleware.addresses import client_network


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_whom_an_address_counts_as(host: str, counted_as: str) -> None:
    """An IPv6 client has a network of addresses to choose from."""
    assert client_network(host) == counted_as
