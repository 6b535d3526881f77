"""The robot's state over each HTTP wire: what reaches the policy, what is refused, and what is left aside."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillframe.testing import policy_info, state_info
from stillframe.web.service.inference import UNREAD_STATE
from stillframe_client.wire import encode_array, pack, unpack

NAMES = ("x", "y", "opening")
NUMBERS = [0.25, -1 / 3, 1.0]
FORMS: dict[str, Any] = {
    "list": NUMBERS,
    "array": encode_array(np.array(NUMBERS)),
    "names": {"opening": NUMBERS[2], "x": NUMBERS[0], "y": NUMBERS[1]},
}


@pytest.fixture
def needy(new_desk: Callable[..., Any]) -> Any:
    """A daemon whose policy reads three numbers."""
    return new_desk(info=policy_info(state=state_info(*NAMES, unit="m")))


def seen(desk: Any) -> list[float]:
    """The state that the policy was given last."""
    state = desk.policy.seen[-1].state
    assert state.dtype == np.float64
    return list(state)


@pytest.fixture
def plain(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame that names no statistics."""
    return {key: value for key, value in frame.items() if key != "unnorm_key"}


@pytest.mark.parametrize("path", ["/act", "/v1/act", "/v1/sessions/arm/act"])
@pytest.mark.parametrize("form", FORMS)
def test_json(needy: Any, plain: dict[str, Any], path: str, form: str) -> None:
    """A list, an array or names, to the bit."""
    reply = needy.ask("POST", path, json={**plain, "state": FORMS[form]})

    assert reply.status_code == 200
    assert seen(needy) == NUMBERS


@pytest.mark.parametrize("state", [NUMBERS, np.array(NUMBERS), np.array([NUMBERS]), FORMS["names"]], ids=str)
def test_msgpack(needy: Any, picture: np.ndarray, state: Any) -> None:
    """An array in openpi's form, a list, or names."""
    body = pack({"image": picture, "instruction": "go", "state": state})
    reply = needy.ask("POST", "/v1/act", content=body, headers={"Content-Type": "application/msgpack"})

    assert reply.status_code == 200
    assert unpack(reply.content)["actions"].shape == (1, 7)
    assert seen(needy) == NUMBERS


@pytest.mark.parametrize("path", ["/v1/act", "/api/inference"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_form(needy: Any, encoded: Callable[..., str], path: str, apart: bool) -> None:  # noqa: FBT001
    """In the part `json` with the other fields, or a part of its own, as curl sends it."""
    words = {"task_description": "go"} if path == "/api/inference" else {"instruction": "go"}
    fields = words if apart else {**words, "state": NUMBERS}
    files = {
        "images" if path == "/api/inference" else "image": ("a.png", base64.b64decode(encoded("PNG"))),
        "json": (None, json.dumps(fields)),
        **({"state": (None, json.dumps(NUMBERS))} if apart else {}),
    }
    reply = needy.ask("POST", path, files=files)

    assert reply.status_code == 200, reply.text
    assert seen(needy) == NUMBERS


def test_a_forms_state_that_is_no_json(needy: Any) -> None:
    """It is pointed at."""
    reply = needy.ask("POST", "/v1/act", files={"image": ("a.png", b""), "state": (None, "0.1, 0.2")})

    assert (reply.status_code, reply.json()["code"]) == (400, "bad-json")
    assert reply.json()["errors"][0]["pointer"] == "/state"


def test_the_flat_observation(needy: Any, plain: dict[str, Any]) -> None:
    """OpenVLA-OFT's client sends `state` beside its pictures."""
    flat = {"full_image": plain["image"], "wrist_image": plain["image"], "instruction": "go"}
    reply = needy.act({**flat, "state": FORMS["array"]})

    assert isinstance(reply.json(), list)
    assert seen(needy) == NUMBERS
    assert needy.act({**flat, "state": [0.0] * 8}).json()["code"] == "wrong-state"


@pytest.mark.parametrize("encode", [lambda frame: frame, lambda frame: {"encoded": json.dumps(frame)}])
def test_auto_evals_word(needy: Any, plain: dict[str, Any], encode: Callable[..., Any]) -> None:
    """`proprio` is the state, and is pointed at under its own name."""
    reply = needy.act(encode({**plain, "proprio": FORMS["array"]}))
    wrong = needy.act(encode({**plain, "proprio": [1.0, 2.0, "3"]})).json()

    assert reply.status_code == 200
    assert seen(needy) == NUMBERS
    assert wrong["errors"][0]["pointer"] == "/proprio/2"


@pytest.mark.parametrize("state", [None, ...], ids=["null", "nothing"])
def test_a_state_that_is_missing(needy: Any, plain: dict[str, Any], state: Any) -> None:
    """It is never taken for zeros, nor for the session's last one: the problem names what is read."""
    needy.ask("POST", "/v1/sessions/arm/act", json={**plain, "state": NUMBERS})
    lacking = plain if state is ... else {**plain, "state": state}
    document = needy.ask("POST", "/v1/sessions/arm/act", json=lacking).json()

    assert (document["status"], document["code"]) == (422, "missing-state")
    assert document["errors"][0]["pointer"] == "/state"
    assert "3 numbers: x [m], y [m], opening [m]" in document["detail"]
    assert len(needy.policy.seen) == 1


def test_another_state_is_another_frame(needy: Any, plain: dict[str, Any]) -> None:
    """Under the same seq it is refused; the same again is answered as before."""
    ask = lambda state: needy.ask("POST", "/v1/sessions/arm/act", json={**plain, "seq": 0, "state": state})  # noqa: E731
    first, again, other = ask(NUMBERS), ask(NUMBERS), ask([0.25, -0.3, 1.0])

    assert (first.status_code, again.json()["replayed"]) == (200, True)
    assert other.json()["code"] == "seq-conflict"


def test_a_state_that_is_not_read_is_said_once_a_session(desk: Any, plain: dict[str, Any]) -> None:
    """In the first reply and in repeats of it; not again in later epochs; each session for itself."""
    ask = lambda session, **more: desk.ask(  # noqa: E731
        "POST", f"/v1/sessions/{session}/act", json={**plain, "state": {"any": "thing"}, "unnorm_key": "jaco", **more}
    ).json()
    first, again, second = ask("arm", seq=0), ask("arm", seq=0), ask("arm", seq=1)
    desk.ask("POST", "/v1/sessions/arm/reset")
    later, other = ask("arm", seq=0), ask("leg", seq=0)

    assert first["warnings"] == again["warnings"] == other["warnings"] == [UNREAD_STATE]
    assert "warnings" not in second
    assert "warnings" not in later
    assert [observation.state for observation in desk.policy.seen] == [None] * 4


def test_without_a_session_it_is_logged_once(
    desk: Any, plain: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A stateless reply says nothing of it, however many there are."""
    caplog.set_level("INFO")
    replies = [desk.act({**plain, "state": [1.0]}) for _ in range(3)]

    assert [reply.headers.get("x-stillframe-warning") for reply in replies] == [None] * 3
    assert [UNREAD_STATE in line for line in caplog.messages].count(True) == 1


def test_a_bare_array_has_it_in_a_header(desk: Any, plain: dict[str, Any]) -> None:
    """OpenVLA's reply is an array alone."""
    replies = [desk.act({**plain, "state": [1.0]}, **{"X-Session-Id": "arm"}) for _ in range(2)]

    assert [json.loads(reply.headers.get("x-stillframe-warning", "[]")) for reply in replies] == [[UNREAD_STATE], []]


def test_the_contract_names_each_number(needy: Any, desk: Any) -> None:
    """Name, unit and range by data set; null where the policy reads none."""
    card = needy.ask("GET", "/v1/models").json()["models"][0]["observation"]["state"]

    assert [field["name"] for field in card["fields"]] == [*NAMES]
    assert card["fields"][0] == {"name": "x", "unit": "m", "ranges": {"robot": [-1.0, 1.0]}}
    assert card["dtype"] == "float64"
    assert desk.ask("GET", "/v1/models").json()["models"][0]["observation"]["state"] is None
