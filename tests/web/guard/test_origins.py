from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from stillframe.errors import Forbidden
from stillframe.web.guard.listeners import Listener
from stillframe.web.guard.origins import Origins

NEAR, WIDE = 8000, 8777  # ports: of a loopback listener, of one that others reach
LISTENERS = {NEAR: Listener(), WIDE: Listener(loopback=False)}
OURS = ["localhost", "LOCALHOST:1", "localhost.:80", "127.0.0.1", "127.8.9.1:65535", "[::1]", "[::1]:8000"]
OTHERS = [
    *("evil.example", "evil.example:8000", "10.0.0.1", "0.0.0.1", "[::]", "::1", "127.1", "2130706433", "0x7f000001"),
    *("localhost.evil.example", "evil.example@localhost", "localhost/evil", "localhost:port", "localhost:", ""),
    *("localhost, evil.example", "127.0.0.1.evil.example", "[::1%eth0]", "[::1", "[127.0.0.1]"),
]


def check(
    origins: Origins, *, hosts: Sequence[str] = ("localhost",), pages: Sequence[str] = (), port: int | None = NEAR
) -> None:
    """Ask as a request does that came in on `port`."""
    raw = [(b"host", host.encode("latin-1")) for host in hosts]
    raw += [(b"origin", page.encode("latin-1")) for page in pages]
    origins.check({"server": None if port is None else ("127.0.0.1", port)}, Headers(raw=raw))


def refusal(origins: Origins, **asked: object) -> str:
    """What is said to who may not ask."""
    with pytest.raises(Forbidden) as caught:
        check(origins, **asked)  # type: ignore[arg-type]  # as above
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    return caught.value.detail


@pytest.mark.parametrize("host", OURS)
def test_loopback_goes_by_its_own_names(host: str) -> None:
    """Any port, any case, either family."""
    check(Origins(LISTENERS), hosts=[host])


@pytest.mark.parametrize("host", OTHERS)
def test_on_loopback_no_other_name_is_ours(host: str) -> None:
    """A page whose name was made to resolve to this machine is told what was expected."""
    said = refusal(Origins(LISTENERS), hosts=[host])

    assert said.endswith("expected localhost, 127.0.0.1 or [::1], or a name in 'allowed_hosts'.")


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"]])
def test_on_loopback_the_host_is_said_once_and_rightly(hosts: list[str]) -> None:
    """None at all, or a second one that is not ours, is refused."""
    refusal(Origins(LISTENERS), hosts=hosts)


def test_a_long_host_comes_back_short() -> None:
    """An error does not carry whatever somebody put into a header."""
    assert len(refusal(Origins(LISTENERS), hosts=["x" * 10_000])) < 200


@pytest.mark.parametrize("host", [*OURS, *OTHERS])
def test_a_port_that_others_reach_goes_by_any_name(host: str) -> None:
    """Nobody can know its names unless they are given."""
    check(Origins(LISTENERS), hosts=[host], port=WIDE)


@pytest.mark.parametrize("port", [NEAR, WIDE])
def test_given_names_are_the_only_ones_beside_loopbacks(port: int) -> None:
    """On every port: without their port, in any case; health checks on the machine itself go on working."""
    origins = Origins(LISTENERS, hosts=["Robot.lab", "[fd00::7]"])
    for host in ("robot.LAB", "robot.lab:9", "[fd00::7]:80", *OURS):
        check(origins, hosts=[host], port=port)
    refused = [refusal(origins, hosts=[host], port=port) for host in ("lab", "x.robot.lab", *OTHERS)]

    assert all("allowed_hosts" in said for said in refused)


@pytest.mark.parametrize("port", [None, 1])
def test_an_unknown_port_is_taken_for_loopback(port: int | None) -> None:
    """Where nothing is known, the narrower rule holds."""
    assert "Host" in refusal(Origins(LISTENERS), hosts=["evil.example"], port=port)


PAGES = [
    "http://localhost:8000",
    "https://evil.example",
    "null",
    "",
    "https://panel.lab:8443/",
    "http://panel.lab:8443",
]


@pytest.mark.parametrize("port", [NEAR, WIDE])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_may_ask_unless_it_is_named(page: str, port: int) -> None:
    """Not even one of the daemon's own address: robots send no Origin, so a browser is behind it."""
    said = refusal(Origins(LISTENERS, origins=["https://panel.lab:8443"]), pages=[page], port=port)

    assert "Origin" in said
    assert "'allowed_origins'" in said


def test_a_named_page_may_ask() -> None:
    """Scheme, host and port as they were given, in any case of letters."""
    check(Origins(LISTENERS, origins=["https://panel.lab:8443"]), pages=["https://Panel.lab:8443"])


def test_one_named_page_does_not_cover_another() -> None:
    """Every Origin that stands there counts."""
    refusal(Origins(LISTENERS, origins=["https://a.lab"]), pages=["https://a.lab", "https://b.lab"])


OURS_AS_A_PATTERN = re.compile(r"\s*(localhost|127(\.\d{1,3}){3}|\[::1\])\.?(:\d{1,5})?\s*", re.IGNORECASE)
PARTS = ["localhost", "127.0.0.1", "[::1]", "evil.example", ":80", ":", "@", "/", " ", ".", ",", "\x00", "\xa0", "\xb2"]


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=4).map("".join) | st.text("\x00\xff.:[]1aL"), max_size=3))
def test_whatever_host_is_sent_only_loopbacks_names_get_in(hosts: list[str]) -> None:
    """Garbage is refused, never an error of ours, and no spelling of another name passes."""
    try:
        check(Origins(LISTENERS), hosts=hosts)
    except Forbidden:
        return

    assert hosts
    assert all(OURS_AS_A_PATTERN.fullmatch(host) for host in hosts)
