from __future__ import annotations

import httpx
import numpy as np
import pytest

from stillframe_client import errors
from stillframe_client.replies import StateSpec, read_action, read_model_info, read_server_timing
from stillframe_client.wire import encode_array


def problem(status, code, **members):
    headers = {"X-Request-Id": "frame-1", "Retry-After": "2"}
    return httpx.Response(status, json={"code": code, "detail": "So it is.", **members}, headers=headers, request=ASKED)


ASKED = httpx.Request("POST", "http://robot.test/act")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad-json", errors.BadRequest),
        (413, "image-too-large", errors.TooLarge),
        (422, "unknown-unnorm-key", errors.Unprocessable),
        (503, "overloaded", errors.Overloaded),
        (503, "too-many-sessions", errors.Overloaded),
        (503, "out-of-memory", errors.Overloaded),
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "unknown-session", errors.UnknownSession),
        (409, "stale-epoch", errors.Conflict),
        (409, "superseded", errors.Superseded),
        (410, "session-evicted", errors.SessionGone),
        (429, "rate-limited", errors.TooMany),
        (503, "not-ready", errors.NotReady),
        (503, "draining", errors.NotReady),
        (504, "deadline-exceeded", errors.DeadlineExceeded),
        (500, "non-finite-action", errors.ServerFault),
        (500, "a-code-of-next-year", errors.ServerFault),
        (404, "not-found", errors.Refused),
    ],
)
def test_problems_become_exceptions(status, code, kind):
    """Each problem is raised as its kind, with everything the daemon said."""
    with pytest.raises(errors.Refused, match=code) as caught:
        read_action(problem(status, code, errors=["x", {"pointer": "/image", "detail": "bad"}, None]))

    assert type(caught.value) is kind
    assert str(caught.value) == f"{code} ({status}): So it is. [request frame-1]"
    assert (caught.value.status, caught.value.code, caught.value.detail) == (status, code, "So it is.")
    assert (caught.value.request_id, caught.value.retry_after_s) == ("frame-1", 2.0)
    assert caught.value.problem.faults == (errors.FieldFault("/image", "bad"),)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, json="error", request=ASKED),
        httpx.Response(200, json={"oops": 1}, request=ASKED),
        httpx.Response(200, json={"actions": [[1], [1, 2]]}, request=ASKED),
        httpx.Response(200, json={"actions": [["a"]]}, request=ASKED),
        httpx.Response(200, json={"actions": []}, request=ASKED),
        httpx.Response(200, json={"actions": [[[1.0]]]}, request=ASKED),
        httpx.Response(200, json=encode_array(np.array([np.nan] * 7)), request=ASKED),
        httpx.Response(200, json=encode_array(np.array([0.0, np.inf])), request=ASKED),
        httpx.Response(200, json=encode_array(np.zeros(7, np.int64)), request=ASKED),
        httpx.Response(202, json={"actions": [[0.0]]}, request=ASKED),
        httpx.Response(200, text="<html>", request=ASKED),
        httpx.Response(502, text="<html>Bad Gateway</html>", request=ASKED),
        httpx.Response(404, json={"detail": "Not Found"}, request=ASKED),
        httpx.Response(307, json={}, request=ASKED),
    ],
)
def test_what_is_no_answer(response):
    """Another server's page, an error with status 200, ragged or non-finite actions: never an action."""
    with pytest.raises((errors.BadReply, errors.UnsupportedDtype)):
        read_action(response)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 3)])
def test_arrays_are_actions(dtype, shape):
    """One action or several, in single or double floats, are rows of float64; the first is due now."""
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    reply = read_action(httpx.Response(200, json=encode_array(array), request=ASKED))

    assert (reply.actions.dtype, reply.actions.shape) == (np.float64, (array.size // 3, 3))
    assert reply.action.tolist() == [0.0, 1.0, 2.0]
    assert reply.actions[-1, -1] == array.size - 1


def test_a_models_card():
    """What is served is said in its own words: height comes before width."""
    card = {
        "name": "sums",
        "family": "openvla",
        "observation": {"cameras": ["front", "wrist"], "image_size": [180, 320]},
        "action": {"fields": [{"name": "dx"}, {"name": "gripper"}], "gripper": "1 = open", "chunk_horizon": 2},
        "norm_stats": {"jaco": {}, "bridge_orig": {}},
        "default_unnorm_key": None,
    }
    info = read_model_info(httpx.Response(200, json={"models": [card, {}]}, request=ASKED))

    assert (info.name, info.family, info.cameras) == ("sums", "openvla", ("front", "wrist"))
    assert (info.image_size, info.chunk_horizon) == ((180, 320), 2)
    assert (info.action_names, info.gripper) == (("dx", "gripper"), "1 = open")
    assert (info.unnorm_keys, info.default_unnorm_key) == (("jaco", "bridge_orig"), None)
    assert info.card == card
    assert (info.camera_slots, info.default_instruction, info.openpi_metadata) == ({}, None, {})


@pytest.mark.parametrize(
    ("said", "expected"), [({"front": "base_0_rgb"}, {"front": "base_0_rgb"}), ({}, {}), (None, {}), (["front"], {})]
)
def test_the_checkpoints_names_of_cameras(said, expected):
    """By the robot's; an older daemon says none."""
    card = card_of({"camera_slots": said})

    assert read_model_info(httpx.Response(200, json={"models": [card]}, request=ASKED)).camera_slots == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"chunk_horizon": 8, "execute": 6}, 6),
        ({"chunk_horizon": 8}, 4),
        ({"chunk_horizon": 1}, 1),
        ({"chunk_horizon": 8, "execute": 9}, 4),
        ({"chunk_horizon": 8, "execute": 0}, 4),
        ({"chunk_horizon": 8, "execute": "six"}, 4),
        ({"chunk_horizon": 0}, 1),
    ],
)
def test_how_much_of_a_chunk_to_play(said, expected):
    """As the deployment advises; of a daemon that does not, or that advises nonsense, half."""
    action = {"fields": [], "gripper": "", **said}
    card = {"name": "x", "family": "x", "observation": {"cameras": [], "image_size": [1, 1]}, "action": action}
    card |= {"norm_stats": {}, "default_unnorm_key": None}

    assert read_model_info(httpx.Response(200, json={"models": [card]}, request=ASKED)).execute == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"first": 4, "count": 8}, 4),
        (None, None),
        ({}, None),
        ([4], None),
        ({"first": -1}, None),
        ({"first": 1.5}, None),
    ],
)
def test_the_step_of_the_first_action(steps, expected):
    """The member `steps` of an answer, if it is one."""
    reply = read_action(httpx.Response(200, json={"actions": [[0.0] * 7], "steps": steps}, request=ASKED))

    assert reply.first_step == expected


STATE_FIELD = {"name": "x", "unit": "m", "ranges": {}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, None),
        ({"state": None}, None),
        ({"state": {"fields": [STATE_FIELD, {"name": "y", "unit": None}]}}, StateSpec(("x", "y"), ("m", None))),
    ],
)
def test_what_a_card_says_of_the_state(said, expected):
    """Names and units in the policy's order; an older daemon says nothing, and its policies read none."""
    assert read_model_info(httpx.Response(200, json={"models": [card_of(said)]}, request=ASKED)).state == expected


@pytest.mark.parametrize(
    "state", [[], {}, {"fields": {}}, {"fields": [{"name": "x"}]}, {"fields": [{**STATE_FIELD, "name": 7}]}]
)
def test_a_state_that_is_none_is_another_servers(state):
    """It is not guessed at."""
    with pytest.raises(errors.BadReply, match="/v1/models"):
        read_model_info(httpx.Response(200, json={"models": [card_of({"state": state})]}, request=ASKED))


def card_of(observation):
    """A card whose `observation` has more in it."""
    return {
        "name": "sums",
        "family": "openvla",
        "observation": {"cameras": ["front"], "image_size": [180, 320], **observation},
        "action": {"fields": [{"name": "dx"}], "gripper": "1 = open", "chunk_horizon": 2},
        "norm_stats": {"jaco": {}},
        "default_unnorm_key": None,
    }


@pytest.mark.parametrize(
    ("document", "header", "expected"),
    [
        ({"warnings": ["odd", 7, "odder"]}, None, ("odd", "odder")),
        ({"warnings": "odd"}, None, ()),
        ({}, '["odd"]', ("odd",)),
        ({}, "[", ()),
        ({}, None, ()),
    ],
)
def test_what_was_odd_about_a_frame(document, header, expected):
    """From the answer's member, or the header of a bare one; what cannot be read is none."""
    headers = {} if header is None else {"X-Stillframe-Warning": header}
    answer = httpx.Response(200, json={"actions": [[0.0] * 7], **document}, headers=headers, request=ASKED)

    assert read_action(answer).warnings == expected


def test_a_broken_array_is_a_wire_error():
    """An array whose bytes do not fit its shape is refused like everywhere on the wire."""
    broken = {**encode_array(np.zeros(7)), "shape": [8]}
    with pytest.raises(errors.WireError):
        read_action(httpx.Response(200, json=broken, request=ASKED))


@pytest.mark.parametrize("document", [[], {}, {"models": []}, {"models": [{"name": "x"}]}, {"models": 3}])
def test_models_of_another_server(document):
    """A card that lacks what ours have is not guessed at."""
    with pytest.raises(errors.BadReply, match="/v1/models"):
        read_model_info(httpx.Response(200, json=document, request=ASKED))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ({}, False)),
        ("queue;dur=0.1, total;dur=9.5, late", ({"queue": 0.1, "total": 9.5}, True)),
        ('cache;desc="hit", db;dur=x, total;dur=3', ({"total": 3.0}, False)),
    ],
)
def test_server_timing(header, expected):
    """Stage times and lateness are read; parts of other servers are skipped."""
    assert read_server_timing(header) == expected


@pytest.mark.parametrize(("said", "stamp"), [(7, 7), (None, None), (7.0, None), (True, None)])
def test_a_time_stamp_comes_back(said, stamp):
    """A whole number as the frame said it; anything else is no stamp."""
    reply = httpx.Response(200, json={"actions": [[0.0] * 7], "t_obs_ns": said}, request=ASKED)

    assert read_action(reply).t_obs_ns == stamp
