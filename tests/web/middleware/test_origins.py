from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from stillframe.errors import Forbidden
from stillframe.web.middleware.listeners import Listener
from stillframe.web.middleware.origins import HostOriginCheck

NEAR, WIDE = 8000, 8777  # ports: of a loopback listener, of one that others reach
LISTENERS = {NEAR: Listener(), WIDE: Listener(loopback=False)}
OURS = [
    *("localhost", "LOCALHOST:1", "localhost.:80", "127.0.0.1", "127.8.9.1:65535", "[::1]", "[::1]:8000"),
    *("0.0.0.0:8000", "[::]:8000", "[::ffff:127.0.0.1]:8000", "[::FFFF:7f00:1]", "10.0.0.1", "192.168.1.20:8000"),
    *("[fd00::7]:8777", "[fe80::1%eth0]:8000", "[fe80::1%25eth0]"),
]
OTHERS = [
    *("evil.example", "evil.example:8000", "robot", "machine.lab:8000", "::1", "127.1", "2130706433", "0x7f000001"),
    *("localhost.evil.example", "evil.example@localhost", "localhost/evil", "localhost:port", "localhost:", ""),
    *(
        "localhost, evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "[::1",
        "[127.0.0.1]",
        "[::1%]",
        "10.0.0.256",
        "010.0.0.1",
    ),
]


def check(
    origins: HostOriginCheck,
    *,
    hosts: Sequence[str] = ("localhost",),
    pages: Sequence[str] = (),
    port: int | None = NEAR,
    scheme: str = "http",
) -> None:
    """Ask as a request does that came in on `port`."""
    raw = [(b"host", host.encode("latin-1")) for host in hosts]
    raw += [(b"origin", page.encode("latin-1")) for page in pages]
    server = None if port is None else ("127.0.0.1", port)
    origins.check({"server": server, "scheme": scheme}, Headers(raw=raw))


def refusal(origins: HostOriginCheck, **asked: object) -> str:
    """What is said to who may not ask."""
    with pytest.raises(Forbidden) as caught:
        check(origins, **asked)  # type: ignore[arg-type]  # as above
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    return caught.value.detail


@pytest.mark.parametrize("host", OURS)
def test_loopback_goes_by_its_own_name_and_by_every_address(host: str) -> None:
    """Any port, any case, either family: a name can be made to resolve to this machine, an address cannot."""
    check(HostOriginCheck(LISTENERS), hosts=[host])


@pytest.mark.parametrize("host", OTHERS)
def test_on_loopback_no_other_name_is_ours(host: str) -> None:
    """A page whose name was made to resolve to this machine is told what was expected."""
    said = refusal(HostOriginCheck(LISTENERS), hosts=[host])

    assert "expected localhost, an IP address, or a name in 'allowed_hosts'." in said
    assert "have the name added to 'allowed_hosts'" in said


def test_on_loopback_every_host_that_is_said_counts() -> None:
    """A second one that is not ours is refused."""
    refusal(HostOriginCheck(LISTENERS), hosts=["localhost", "evil.example"])


@pytest.mark.parametrize("given", [(), ("robot.lab",)])
def test_a_probe_without_a_host_passes(given: Sequence[str]) -> None:
    """As HAProxy's health checks ask in HTTP/1.0; a browser always says one. A page that asks so stays out."""
    check(HostOriginCheck(LISTENERS, hosts=given), hosts=[])
    refusal(HostOriginCheck(LISTENERS, hosts=given), hosts=[], pages=["http://evil.example"])


def test_a_long_host_comes_back_short() -> None:
    """An error does not carry whatever somebody put into a header."""
    assert len(refusal(HostOriginCheck(LISTENERS), hosts=["x" * 10_000])) < 200


@pytest.mark.parametrize("host", [*OURS, *OTHERS])
def test_a_port_that_others_reach_goes_by_any_name(host: str) -> None:
    """Nobody can know its names unless they are given."""
    check(HostOriginCheck(LISTENERS), hosts=[host], port=WIDE)


@pytest.mark.parametrize("port", [NEAR, WIDE])
def test_given_names_are_the_only_ones_beside_loopbacks(port: int) -> None:
    """On every port: without their port, in any case; health checks on the machine itself go on working."""
    origins = HostOriginCheck(LISTENERS, hosts=["Robot.lab", "[fd00::7]"])
    for host in ("robot.LAB", "robot.lab:9", "[fd00::7]:80", *OURS):
        check(origins, hosts=[host], port=port)
    refused = [refusal(origins, hosts=[host], port=port) for host in ("lab", "x.robot.lab", *OTHERS)]

    assert all("allowed_hosts" in said for said in refused)


@pytest.mark.parametrize("port", [None, 1])
def test_an_unknown_port_is_taken_for_loopback(port: int | None) -> None:
    """Where nothing is known, the narrower rule holds."""
    assert "Host" in refusal(HostOriginCheck(LISTENERS), hosts=["evil.example"], port=port)


OWN = [
    ("http", "127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("ws", "127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("wss", "127.0.0.1:8000", "https://127.0.0.1:8000"),
    ("https", "LOCALHOST:8000", "HTTPS://localhost:8000"),
    ("http", "localhost", "http://localhost:80"),
    ("http", "localhost:80", "http://localhost"),
    ("https", "10.0.0.7", "https://10.0.0.7:443"),
    ("ws", "[::1]:8000", "http://[::1]:8000"),
    ("ws", "0.0.0.0:8000", "http://0.0.0.0:8000"),
    ("http", "robot.lab:8000", "http://Robot.lab:8000"),
]
FOREIGN = [
    ("http", "127.0.0.1:8000", "https://127.0.0.1:8000"),
    ("https", "127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("wss", "127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("http", "127.0.0.1:8000", "http://127.0.0.1:8001"),
    ("http", "127.0.0.1:8000", "http://127.0.0.1"),
    ("http", "127.0.0.1:8000", "http://localhost:8000"),
    ("http", "127.0.0.1:8000", "http://127.0.0.1:8000/"),
    ("http", "127.0.0.1:8000", "127.0.0.1:8000"),
    ("http", "127.0.0.1:8000", "null"),
    ("http", "localhost:80", "https://localhost"),
]


@pytest.mark.parametrize("port", [NEAR, WIDE])
@pytest.mark.parametrize(("scheme", "host", "page"), OWN)
def test_a_page_of_the_daemons_own_address_may_ask(scheme: str, host: str, page: str, port: int) -> None:
    """As websocket-client says its Origin, unasked: scheme, name and port are those of the request."""
    check(HostOriginCheck(LISTENERS, hosts=["robot.lab"]), hosts=[host], pages=[page], port=port, scheme=scheme)


@pytest.mark.parametrize("port", [NEAR, WIDE])
@pytest.mark.parametrize(("scheme", "host", "page"), FOREIGN)
def test_a_page_of_another_address_stays_out(scheme: str, host: str, page: str, port: int) -> None:
    """Another scheme, name or port; what is no origin; a page without one."""
    said = refusal(HostOriginCheck(LISTENERS), hosts=[host], pages=[page], port=port, scheme=scheme)

    assert "Origin" in said


def test_a_page_whose_name_was_made_to_resolve_to_us_stays_out() -> None:
    """Where any name passes as Host, a page's own name may be one that its owner points here: no origin of ours."""
    refusal(HostOriginCheck(LISTENERS), hosts=["evil.example:8777"], pages=["http://evil.example:8777"], port=WIDE)


def test_two_hosts_have_no_origin() -> None:
    """The page could be of either."""
    refusal(HostOriginCheck(LISTENERS), hosts=["localhost", "127.0.0.1"], pages=["http://127.0.0.1"])


PAGES = [
    "https://localhost",
    "https://evil.example",
    "null",
    "",
    "https://panel.lab:8443/",
    "http://panel.lab:8443",
]


@pytest.mark.parametrize("port", [NEAR, WIDE])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_may_ask_unless_it_is_named(page: str, port: int) -> None:
    """Robots send no Origin, or their daemon's: a browser is behind another one."""
    said = refusal(HostOriginCheck(LISTENERS, origins=["https://panel.lab:8443"]), pages=[page], port=port)

    assert "Origin" in said
    assert "'allowed_origins'" in said


def test_a_named_page_may_ask() -> None:
    """Scheme, host and port as they were given, in any case of letters."""
    check(HostOriginCheck(LISTENERS, origins=["https://panel.lab:8443"]), pages=["https://Panel.lab:8443"])


def test_one_named_page_does_not_cover_another() -> None:
    """Every Origin that stands there counts."""
    refusal(HostOriginCheck(LISTENERS, origins=["https://a.lab"]), pages=["https://a.lab", "https://b.lab"])


OURS_AS_A_PATTERN = re.compile(r"\s*(localhost|\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])\.?(:\d{1,5})?\s*", re.IGNORECASE)
PARTS = ["localhost", "127.0.0.1", "[::1]", "evil.example", ":80", ":", "@", "/", " ", ".", ",", "\x00", "\xa0", "\xb2"]


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=4).map("".join) | st.text("\x00\xff.:[]1aL"), max_size=3))
def test_whatever_host_is_sent_only_addresses_and_loopback_get_in(hosts: list[str]) -> None:
    """Garbage is refused, never an error of ours, and no spelling of another name passes."""
    try:
        check(HostOriginCheck(LISTENERS), hosts=hosts)
    except Forbidden:
        return

    assert all(OURS_AS_A_PATTERN.fullmatch(host) for host in hosts)
