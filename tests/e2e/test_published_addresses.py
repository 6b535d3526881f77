"""Published snippets with the address as it is published, and clients that name their own Origin unasked."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_stream

from stillframe_client.wire import encode_array

WORDS = "pick up the red cube"
WAIT_S = 60.0


def port_of(url: str) -> int:
    """Where a daemon listens."""
    port = urlsplit(url).port
    assert port is not None
    return port


def test_openvlas_snippet_posts_to_every_address(tiny: Any, scenes: Any, natively: Any) -> None:
    """`requests.post("http://0.0.0.0:8000/act", ...)` is the documentation's, word for word but for the port."""
    body = {"image": encode_array(scenes["left"][0]), "instruction": WORDS}
    reply = requests.post(f"http://0.0.0.0:{port_of(tiny.url)}/act", json=body, timeout=WAIT_S)

    assert reply.status_code == 200, reply.text
    assert encode_array(natively["left"][0, 0]) == reply.json()


@pytest.mark.parametrize(("packages", "program"), [("openpi-client-0.1.2", "openpi"), ("json-numpy-2.1.1", "openvla")])
def test_real_clients_by_the_address_of_every_interface(
    tiny: Any, scenes: Any, natively: Any, connect: Callable[..., Any], packages: str, program: str
) -> None:
    """openpi-client's own default host is 0.0.0.0."""
    answer = connect(packages, program, f"http://0.0.0.0:{port_of(tiny.url)}")("left", "act", scenes["left"][0], WORDS)
    action = answer["actions"][0] if program == "openpi" else answer

    assert np.array_equal(action, natively["left"][0, 0].astype(action.dtype))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 (asked, not listened on)
def test_a_websocket_client_that_names_its_own_origin(tiny: Any, host: str) -> None:
    """As websocket-client's create_connection does by default: http://host:port of the address that it was given."""
    address = f"{host}:{port_of(tiny.url)}"
    with connect_stream(f"ws://{address}/v1/stream", origin=f"http://{address}", open_timeout=WAIT_S) as stream:
        hello = stream.recv(timeout=WAIT_S)

    assert b"hello" in (hello if isinstance(hello, bytes) else hello.encode())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 (asked, not listened on)
def test_websocket_client_itself(tiny: Any, scenes: Any, natively: Any, connect: Callable[..., Any], host: str) -> None:
    """The package, with its defaults."""
    url = f"http://{host}:{port_of(tiny.url)}"
    actions = connect("websocket-client-1.8.0", "websocket_client", url)("left", "act", scenes["left"][0], WORDS)

    assert np.array_equal(actions, natively["left"][0])


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_a_page_of_another_address_stays_out(tiny: Any, origin: str) -> None:
    """On a stream and on HTTP: 403, and why."""
    with (
        pytest.raises(InvalidStatus) as refused,
        connect_stream(f"ws://127.0.0.1:{port_of(tiny.url)}/v1/stream", origin=origin, open_timeout=WAIT_S),
    ):
        pass
    posted = httpx.get(f"{tiny.url}/v1/models", headers={"Origin": origin})

    assert (refused.value.response.status_code, posted.status_code) == (403, 403)
    assert "allowed_origins" in posted.json()["detail"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/health"])
def test_a_health_check_in_http_1_0_without_a_host(tiny: Any, path: str) -> None:
    """HAProxy's default."""
    with socket.create_connection(("127.0.0.1", port_of(tiny.url)), timeout=WAIT_S) as probe:
        probe.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = probe.makefile("rb").readline()

    assert b" 200 " in answer


def test_a_name_that_was_pointed_at_us_is_told_how_to_be_let_in(tiny: Any) -> None:
    """The machine's own name is a name like any other."""
    reply = httpx.get(f"{tiny.url}/v1/models", headers={"Host": "robot.lab:8000"})

    assert reply.status_code == 403
    assert "allowed_hosts" in json.loads(reply.content)["detail"]
