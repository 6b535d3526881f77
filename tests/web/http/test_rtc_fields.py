"""The field `rtc`: through JSON, msgpack and forms to the policy, what is said back, and what is refused and why."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from stillframe.domain import RtcInfo, RtcRequest
from stillframe.testing import policy_info
from stillframe_client.wire import RTC_HEADER, pack, unpack

INFO = policy_info(chunk_horizon=8, rtc=RtcInfo("flow", why=None))
ASKED = {"delay_steps": 2, "executed_steps": 4, "horizon": 5, "chunk_seq": 0}
SEEN = RtcRequest(2, 4, 5, 0)
ARM = {"session_id": "arm"}


@pytest.fixture
def desk(new_desk):
    """The app over a policy whose chunks can be held."""
    return new_desk(info=INFO, actions=np.zeros((8, 7)))


def test_json_msgpack_and_forms(desk, frame, picture):
    """The policy gets what was asked, the reply says what was held, or why nothing was."""
    frame = {**frame, **ARM, "unnorm_key": "robot"}
    first = desk.ask("POST", "/v1/act", json={**frame, "rtc": ASKED})
    body = pack({**frame, "image": picture, "rtc": ASKED})
    packed = desk.ask("POST", "/v1/act", content=body, headers={"content-type": "application/msgpack"})
    sink = io.BytesIO()
    PIL.Image.fromarray(picture).save(sink, "PNG")
    said = {key: value for key, value in frame.items() if key != "image"}
    form = desk.ask(
        "POST",
        "/v1/act",
        files={"image": ("a.png", sink.getvalue(), "image/png")},
        data={"json": json.dumps({**said, "rtc": {"delay_steps": 1, "executed_steps": 1}})},
    )

    assert first.json()["rtc"] == {"frozen": 0, "guided": 0, "why": "no-chunk"}
    assert unpack(packed.content)["rtc"] == {"frozen": 2, "guided": 3, "chunk_seq": 0}
    assert form.json()["rtc"] == json.loads(form.headers[RTC_HEADER]) == {"frozen": 1, "guided": 0, "chunk_seq": 1}
    assert [session.rtc for session in desk.policy.sessions] == [SEEN, SEEN, RtcRequest(1, 1)]
    assert "rtc" not in desk.ask("POST", "/v1/act", json={**frame, "rtc": None}).json()
    assert desk.sample("stillframe_rtc_frames_total", outcome="held") == 2
    assert desk.sample("stillframe_rtc_frames_total", outcome="no-chunk") == 1


@pytest.mark.parametrize(
    ("said", "code", "pointer", "words"),
    [
        ("yes", "bad-field", "/rtc", "expected an object of delay_steps, executed_steps, horizon, chunk_seq"),
        ({"delay_step": 2}, "bad-field", "/rtc", "delay_steps"),
        ({"delay_steps": 2}, "missing-field", "/rtc/executed_steps", "count its steps"),
        ({"executed_steps": 2}, "missing-field", "/rtc/delay_steps", "'delay_steps'"),
        ({**ASKED, "delay_steps": -1}, "bad-field", "/rtc/delay_steps", "whole number from 0"),
        ({**ASKED, "executed_steps": 1.5}, "bad-field", "/rtc/executed_steps", "whole number from 0"),
        ({**ASKED, "delay_steps": 8}, "bad-field", "/rtc/delay_steps", "a chunk has 8 actions"),
        ({**ASKED, "horizon": 1}, "bad-field", "/rtc/horizon", "'delay_steps' \\(2\\) to the chunk's 8"),
        ({**ASKED, "horizon": 9}, "bad-field", "/rtc/horizon", "to the chunk's 8 actions"),
        ({**ASKED, "chunk_seq": "0"}, "bad-field", "/rtc/chunk_seq", "whole number from 0"),
    ],
    ids=str,
)
def test_bad_values(desk, frame, said, code, pointer, words):
    """Each is refused before it reaches the policy: what was wrong, what was expected."""
    problem = desk.act({**frame, **ARM, "unnorm_key": "robot", "rtc": said}).json()

    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer)
    assert re.search(words, problem["detail"])
    assert desk.policy.sessions == []


def test_what_cannot_be_held(new_desk, desk, frame):
    """A policy that cannot is refused with its reason, which /v1/models says too; so is a frame of no session."""
    why = "its chunk comes out of one pass"
    other = new_desk(info=policy_info(chunk_horizon=8, rtc=RtcInfo(why=why)))
    frame = {**frame, "unnorm_key": "robot", "rtc": ASKED}
    problem, stateless = other.act({**frame, **ARM}).json(), desk.act(frame).json()
    cards = [one.ask("GET", "/v1/models").json()["models"][0]["action"]["rtc"] for one in (desk, other)]

    assert problem["code"] == "rtc-unsupported"
    assert why in problem["detail"]
    assert stateless["code"] == "rtc-without-session"
    assert cards == [{"process": "flow", "why": None}, {"process": None, "why": why}]
