"""What is said of a daemon as it starts."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillframe.daemon.config import load_config
from stillframe.daemon.sockets import BoundSocket
from stillframe.daemon.summary import start_summary
from stillframe.domain import HistoryInfo, KVUsage
from stillframe.testing.policy import INFO
from stillframe.web.middleware.listeners import Listener

SECRET = "a-token-that-is-secret"  # noqa: S105 -- a test's
USAGE = KVUsage(0, 32 * 2**20, 0, 16)


@pytest.fixture
def sockets() -> Iterator[list[BoundSocket]]:
    """Two listeners, which nothing is bound to."""
    with ExitStack() as opened:
        profiles = {8000: "native", 8001: "openvla-oft"}
        yield [
            BoundSocket(opened.enter_context(socket.socket()), port, f"http://127.0.0.1:{port}", Listener(profile))
            for port, profile in profiles.items()
        ]


def summary(sockets: list[BoundSocket], info: Any = INFO, **values: Any) -> Mapping[str, str]:
    """Of a configuration with these keys."""
    return start_summary(load_config(None, {"checkpoint": Path("nowhere")} | values), sockets, info, USAGE)


def test_it_says_what_is_served_and_where(sockets: list[BoundSocket]) -> None:
    """Model, device, memory for how many sessions, each listener with its profile, and where to look."""
    info = replace(INFO, source="org/arm@c0ffee", weights="int8", weight_bytes=5 * 2**20)
    said = summary(sockets, info)

    assert said["model"].startswith(f"org/arm@c0ffee ({INFO.family}), ")
    assert said["device"].startswith(f"{INFO.device}, {INFO.dtype}, weights int8")
    assert said["memory"] == "weights 5 MiB, KV 32 MiB: 16 sessions of 2.0 MiB"
    assert said["listening"] == "http://127.0.0.1:8000 (native), http://127.0.0.1:8001 (openvla-oft)"
    assert said["look"] == (
        "http://127.0.0.1:8000/ in a browser, stillframe top http://127.0.0.1:8000, http://127.0.0.1:8000/metrics"
    )


@pytest.mark.parametrize(
    ("shadow", "said"),
    [({}, "off"), ({"checkpoint": Path("candidate"), "share": 0.25}, "candidate, 25% of sessions' frames")],
)
def test_it_says_which_policy_answers_in_its_shadow(
    sockets: list[BoundSocket], shadow: dict[str, Any], said: str
) -> None:
    """And how many frames of it."""
    assert summary(sockets, shadow=shadow)["shadow"] == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "no token, this machine only; no TLS"),
        ({"host": "0.0.0.0", "allow_anonymous": True}, "no token, any machine that reaches it; no TLS"),  # noqa: S104
        ({"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}, "no token, this machine only; TLS"),
    ],
)
def test_it_says_which_callers_may_ask(sockets: list[BoundSocket], values: dict[str, Any], said: str) -> None:
    """A daemon that any machine reaches without a token is told so in plain words."""
    assert summary(sockets, **values)["access"] == said


def test_tokens_are_told_by_name(sockets: list[BoundSocket]) -> None:
    """Neither a token nor its hash is in the summary."""
    hashes = {name: hashlib.sha256(f"{SECRET}-{name}".encode()).hexdigest() for name in ("front", "back")}
    said = summary(sockets, tokens=[{"name": name, "sha256": hashed} for name, hashed in hashes.items()])

    assert said["access"] == "tokens of front, back; no TLS"
    assert not [fact for fact in said.values() if any(secret in fact for secret in (SECRET, *hashes.values()))]


def test_what_is_switched_off_is_not_promised(sockets: list[BoundSocket]) -> None:
    """No live page to look at, no recording; older frames only where they are looked at, with their memory."""
    off = summary(sockets, live={"enabled": False})
    on = summary(
        sockets,
        replace(INFO, history=HistoryInfo(enabled=True, budget_bytes=2**18)),
        record=Path("kept"),
        record_images="hash",
    )

    assert off["look"] == "http://127.0.0.1:8000/metrics"
    assert off["recording"] == "off"
    assert off["reuse"].endswith("older frames: off")
    assert on["recording"] == "kept, pictures: hash"
    assert on["reuse"].endswith("older frames: on")
    assert on["memory"].endswith(", and 0.2 MiB of older frames for each")
