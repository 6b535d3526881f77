from __future__ import annotations

import pytest

from stillframe_client.arguments import base_url, bearer, daemon_url, seconds, stream_url, trust


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://robots.example/arm/", "https://robots.example/arm"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),  # where to listen; to connect it is this machine
        ("http://[::]:8000/arm", "http://[::1]:8000/arm"),
    ],
)
def test_addresses(url, expected):
    """A prefix is kept, a slash behind it is not."""
    assert base_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "ws://robot",
        "ftp://robot",
        "http:///arm",
        "http://",
        7,
        b"http://robot",
        "http://robot:port",
        "http://robot:99999",
        "http://robot:0",
        "http://robot?arm=1",
        "http://robot#arm",
        "http://rob\not",
        f"http://{'a' * 70_000}",
    ],
    ids=lambda url: str(url)[:20],
)
def test_what_is_no_address(url):
    """A client over HTTP asks over http and https, of a host that is named."""
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8000"):
        base_url(url)


@pytest.mark.parametrize("value", [1, 0.001, 1e9])
def test_seconds(value):
    """Whole and broken seconds are floats."""
    assert (seconds("timeout_s", value), type(seconds("timeout_s", value))) == (value, float)


@pytest.mark.parametrize("token", ["", "two words", "tab\t", "nul\0", "clé", 7, b"t0ken"])
def test_what_is_no_token(token):
    """Printable ASCII without spaces is one; what else was handed in is not repeated."""
    with pytest.raises(ValueError, match="is not one") as caught:
        bearer(token)
    assert str(token) not in str(caught.value) or not token


def test_whom_to_trust(tmp_path):
    """No file: the system's certificates; a file that is not there, or holds none, is told with its name."""
    (none := tmp_path / "none.pem").write_text("no certificate")

    assert trust(None) is None
    for file in (none, tmp_path / "nowhere.pem"):
        with pytest.raises(ValueError, match=f"{file.name}.*PEM"):
            trust(str(file))


def test_a_stream_of_this_machine():
    """The wildcard addresses are this machine for streams too; a daemon's own address is told without a path."""
    assert stream_url("ws://0.0.0.0:8000") == "ws://127.0.0.1:8000/v1/stream"
    assert stream_url("https://[::]:8443/arm") == "wss://[::1]:8443/arm/v1/stream"
    assert daemon_url("ws://robot:8000/act/v1/stream") == "ws://robot:8000"
