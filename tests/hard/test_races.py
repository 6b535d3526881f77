"""Over HTTP: late answers, repeats, full lines, resets and closes in the middle of a step; ids that are hostile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from stillframe_client.wire import encode_array, is_session_id

WAIT_S = 60.0
BODY = {"image": encode_array(np.zeros((8, 8, 3), np.uint8)), "instruction": "go"}


@dataclass
class Reply:
    """An answer, as far as these tests ask."""

    status: int
    headers: dict[str, str]
    document: Any


@dataclass
class Asked:
    """A request whose client may hang up before the answer."""

    app: Any
    path: str
    body: bytes
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)
    _read: bool = False

    async def answered(self) -> Reply:
        """Ask, and wait for the answer."""
        headers = [("host", "localhost"), ("content-type", "application/json"), *self.headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": quote(self.path).encode(),
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        }
        await self.app(scope, self._receive, self._send)
        body = b"".join(message.get("body", b"") for message in self.sent[1:])
        told = {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
        return Reply(self.sent[0]["status"], told, json.loads(body) if body else None)

    async def _receive(self) -> dict[str, Any]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.fixture
def ask(desk: Any) -> Callable[..., Asked]:
    """Make a frame of the session `arm`, not yet asked: `ask(seq=3)`, `ask(words="other")`."""

    def make(*, path: str = "/v1/sessions/arm/act", words: str = "go", key: str | None = None, **fields: Any) -> Asked:
        headers = {} if key is None else {"idempotency-key": key}
        body = json.dumps({**BODY, "instruction": words, **fields}).encode()
        return Asked(desk.app, path, body, headers=headers)

    return make


@pytest.fixture
def play() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a test's story: in time, and with nothing left running."""

    def through(story: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(WAIT_S):
                told = await story
                await asyncio.sleep(0)
                assert asyncio.all_tasks() == {asyncio.current_task()}
                return told

        return asyncio.run(bounded())

    return through


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or task does."""
    while not condition():
        await asyncio.sleep(0.002)


async def started(desk: Any, frame: Asked) -> asyncio.Task[Reply]:
    """A frame that is being computed, and will be until `go_on` is set."""
    desk.policy.go_on.clear()
    desk.policy.started.clear()
    task = asyncio.create_task(frame.answered())
    await until(desk.policy.started.is_set)
    return task


async def under_way(desk: Any, frame: Asked) -> asyncio.Task[Reply]:
    """A frame that the policy was handed."""
    handed = len(desk.policy.sessions)
    task = asyncio.create_task(frame.answered())
    await until(lambda: len(desk.policy.sessions) > handed)
    return task


@pytest.mark.parametrize("place", [{"seq": 4}, {"key": "k1"}], ids=["seq", "key"])
def test_given_up_and_asked_again(desk: Any, ask: Any, play: Any, place: dict[str, Any]) -> None:
    """The client hangs up in the step; its repeat gets the answer that was computed for nobody, once."""

    async def story() -> tuple[Reply, Reply]:
        impatient = ask(**place)
        first = await started(desk, impatient)
        impatient.gone.set()
        given_up = await first
        desk.policy.go_on.set()
        return given_up, await ask(**place).answered()

    given_up, repeat = play(story())

    assert given_up.status == 499
    assert (repeat.status, repeat.headers["x-stillframe-replayed"]) == (200, "true")
    assert len(desk.policy.seen) == 1


@pytest.mark.parametrize("place", [{"seq": 4}, {"key": "k1"}], ids=["seq", "key"])
def test_one_seq_twice_at_once(desk: Any, ask: Any, play: Any, place: dict[str, Any]) -> None:
    """Two equal requests at once are one computation and two equal answers."""

    async def story() -> list[Reply]:
        first = await started(desk, ask(**place))
        second = asyncio.create_task(ask(**place).answered())
        other = await ask(words="another", **place).answered()
        desk.policy.go_on.set()
        return [await first, await second, other]

    first, second, other = play(story())

    assert first.document["actions"] == second.document["actions"]
    assert first.document["session"] == second.document["session"]
    assert second.document["replayed"]
    assert (other.status, other.document["code"]) == (409, "seq-conflict")
    assert len(desk.policy.seen) == 1


def test_one_of_two_askers_hangs_up(desk: Any, ask: Any, play: Any) -> None:
    """The other one still gets the answer, though its frame was waiting behind another's."""

    async def story() -> tuple[Reply, Reply]:
        ahead = await started(desk, ask(path="/v1/sessions/other/act"))
        leaving = ask(seq=1)
        first = await under_way(desk, leaving)
        second = asyncio.create_task(ask(seq=1).answered())
        await until(lambda: desk.sample("stillframe_replayed_total") == 1)
        leaving.gone.set()
        left = await first
        desk.policy.go_on.set()
        await ahead
        return left, await second

    left, stayed = play(story())

    assert (left.status, stayed.status) == (499, 200)
    assert len(desk.policy.seen) == 2


def test_the_line_of_a_session_is_full(desk: Any, ask: Any, play: Any) -> None:
    """One computed, one waiting; a third is told to wait, and nothing of it stays: its seq can be used."""

    async def story() -> list[Reply]:
        first = await started(desk, ask(seq=0))
        second = await under_way(desk, ask(seq=1))
        third = await ask(seq=2).answered()
        other = await under_way(desk, ask(path="/v1/sessions/other/act"))
        desk.policy.go_on.set()
        return [await first, await second, await other, third, await ask(seq=2).answered()]

    *answered, refused, again = play(story())

    assert [reply.status for reply in answered] == [200] * 3
    assert (refused.status, refused.document["code"]) == (429, "session-busy")
    assert int(refused.headers["retry-after"]) >= 1
    assert (again.status, again.document["session"]["seq"]) == (200, 2)


def test_a_reset_in_a_step(desk: Any, ask: Any, play: Any) -> None:
    """What is under way is answered in its epoch; what comes after begins the next with a keyframe."""

    async def story() -> list[Reply]:
        first = await started(desk, ask(seq=7))
        reset = await Asked(desk.app, "/v1/sessions/arm/reset", b"{}").answered()
        desk.policy.go_on.set()
        stale = await ask(seq=8, epoch=0).answered()
        return [await first, reset, stale, await ask().answered()]

    first, reset, stale, following = play(story())

    assert (first.status, first.document["session"]) == (200, {"id": "arm", "epoch": 0, "seq": 7})
    assert reset.document == {"session_id": "arm", "epoch": 1}
    assert (stale.status, stale.document["code"]) == (409, "stale-epoch")
    assert following.document["session"] == {"id": "arm", "epoch": 1, "seq": 0}
    assert following.document["cache"]["reason"] == "reset"


def test_a_close_in_a_step(desk: Any, ask: Any, play: Any) -> None:
    """What waits is told that the session is closed, what is computed is answered; one of its name begins anew."""

    async def story() -> list[Reply]:
        first = await started(desk, ask(seq=7))
        second = await under_way(desk, ask(seq=8))
        closed = await Asked(desk.app, "/v1/sessions/arm", b"", method="DELETE").answered()
        waited = await second
        gone = await Asked(desk.app, "/v1/sessions/arm", b"", method="GET").answered()
        desk.policy.go_on.set()
        return [await first, waited, closed, gone, await ask().answered()]

    first, waited, closed, gone, reborn = play(story())

    assert first.status == 200
    assert closed.status == 204
    assert [(reply.status, reply.document["code"]) for reply in (waited, gone)] == [(410, "session-closed")] * 2
    assert reborn.document["session"] == {"id": "arm", "epoch": 0, "seq": 0}
    assert desk.policy.forgotten == ["arm"]


CHARACTERS = [chr(code) for code in (*range(256), 0x202E, 0xFEFF, 0xFFFD, 0x1F600)]
SHAPES = [["{}", "a{}b"], pytest.param(["{0}{0}{0}", "{}a", "a{}"], marks=pytest.mark.slow)]
MORE = ["..", ".", "%2e%2e", "%00", "a%2Fb", "s-" + "0" * 32, "${jndi:x}", "' OR 1 --"]
MORE += ["a" * length for length in (128, 129, 5000)]
REFUSALS = {"session-id-invalid", "unknown-session", "not-found", "method-not-allowed"}


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("way", ["path", "header", "field"])
def test_hostile_ids(desk: Any, ask: Any, play: Any, way: str, shapes: list[str]) -> None:
    """Each character anywhere in an id: that very id is served, or it is refused; never another, never our fault."""

    def asked(name: str) -> Awaitable[Reply]:
        if way == "path":
            return ask(path=f"/v1/sessions/{name}/act").answered()
        frame = ask(path="/v1/act", **({"session_id": name} if way == "field" else {}))
        if way == "header":
            frame.headers["x-session-id"] = name
        return frame.answered()

    async def story() -> None:
        names = {shape.format(character) for shape in shapes for character in CHARACTERS} | set(MORE)
        if way == "header":  # carries Latin-1, and the listener lets no control character by
            names = {name for name in names if all("\x20" <= letter <= "\xff" for letter in name)}
        for name in sorted(names):
            reply = await asked(name)
            if reply.status == 200:
                assert reply.document["session"]["id"] == name
                assert is_session_id(name)
                closed = await Asked(desk.app, f"/v1/sessions/{name}", b"", method="DELETE").answered()
                assert closed.status == (404 if "/" in name else 204), name  # no path leads there: its time will come
            else:
                assert reply.document["code"] in REFUSALS, name
                assert not is_session_id(name) or "/" in name or name.startswith("s-"), (name, reply.document)

    play(story())


@pytest.mark.parametrize("name", ["a?b", "a#b", "a b", "100%", "%41", "a;b", '"quoted"'])
def test_a_session_is_where_its_location_says(desk: Any, name: str) -> None:
    """The header is an address, whatever the id's letters: following it leads to that very session."""
    opened = desk.ask("POST", "/v1/sessions", json={"session_id": name})
    shown = desk.ask("GET", opened.headers["location"])

    assert opened.status_code == 201
    assert (shown.status_code, shown.json()["id"]) == (200, name)
