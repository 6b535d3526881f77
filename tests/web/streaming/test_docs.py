"""docs/stream.md says what the daemon does: its example is played, its list of messages is the code's."""

from __future__ import annotations

import re
from pathlib import Path

from stillframe_client.wire import JSON_PROTOCOL

TEXT = (Path(__file__).parents[3] / "docs" / "stream.md").read_text(encoding="utf-8")
EXAMPLE = [line for line in TEXT.split("```")[1].splitlines() if line]
MEMBER = re.compile(r'"(\w+)":(?:\{[^{}]*\}|\[\[[^\[\]]*\]\]|[^,{}]+)')  # with a value of one level


def test_the_example(stream, play):
    """Each message that is shown is answered as shown, with the members that are shown and no others."""

    async def story():
        heard = []
        async with stream(protocol=JSON_PROTOCOL) as socket:
            for line in EXAMPLE:
                if line.startswith("> "):
                    socket.put(line[2:])
                else:
                    heard.append(await socket.hear())
        return heard

    shown = [line for line in EXAMPLE if line.startswith("< ")]
    heard = play(story())
    problem = next(message for message in heard if message["type"] == "problem")

    assert [set(MEMBER.findall(line)) for line in shown] == [set(message) for message in heard]
    assert [re.findall(r'^< \{"type":"(\w+)"', line) for line in shown] == [[message["type"]] for message in heard]
    assert f'"problem":{{"code":"{problem["problem"]["code"]}","status":{problem["problem"]["status"]},' in TEXT


def test_what_may_be_said(stream, play):
    """The table of a client's messages names each that is understood, and no other."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask("nonsense")

    understood = play(story())["problem"]["detail"].removeprefix("'type' has to be one of ").removesuffix(".")
    table = TEXT.split("## What a client says")[1].split("## ")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(understood.split(", "))
