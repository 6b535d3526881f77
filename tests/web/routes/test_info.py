from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import get_args

import pytest

from stillframe.domain import DraftMode, HistoryInfo, RecordingReport
from stillframe.web.openapi.problem_codes import PROBLEM_CODES
from stillframe.web.service.lifecycle import Lifecycle


def test_readiness_follows_the_daemon(new_desk):
    """/readyz goes loading, warming, ready, draining; /livez is 200 throughout."""
    desk = new_desk(loaded=False)
    policy = desk.policy
    seen = [desk.ask("GET", "/readyz")]
    policy.ready = False
    desk.lifecycle.serve(policy)
    seen.append(desk.ask("GET", "/readyz"))
    policy.ready = True
    seen.append(desk.ask("GET", "/readyz"))
    desk.lifecycle.drain()
    seen.append(desk.ask("GET", "/readyz"))

    assert [reply.status_code for reply in seen] == [503, 503, 200, 503]
    assert [reply.json()["state"] for reply in seen] == ["loading", "warming", "ready", "draining"]
    assert ["retry-after" in reply.headers for reply in seen] == [True, True, False, True]
    assert desk.ask("GET", "/livez").status_code == 200


def test_healthz_speaks_openpi(desk):
    """/healthz is the text OK when ready, a problem when not."""
    ready = desk.ask("GET", "/healthz")
    desk.lifecycle.drain()
    draining = desk.ask("GET", "/healthz")

    assert (ready.status_code, ready.text) == (200, "OK\n")
    assert (draining.status_code, draining.json()["code"]) == (503, "draining")


def test_a_stuck_device_is_not_ready(desk):
    """No probe takes it for well, the scrape says so, and the status has the word."""
    desk.policy.busy_s = desk.lifecycle.watchdog_s + 1
    probes = [desk.ask("GET", path) for path in ("/readyz", "/health", "/healthz")]
    scraped = desk.ask("GET", "/metrics").text

    assert [(reply.status_code, reply.json()["code"], reply.json()["state"]) for reply in probes] == [
        (503, "stuck", "stuck")
    ] * 3
    assert "stillframe_ready 0.0" in scraped
    assert desk.ask("GET", "/v1/status").json()["state"] == "stuck"


def test_a_model_is_shown_by_its_name(desk):
    """The same card as in the list; another name is not found, and told what is served."""
    shown, other = desk.ask("GET", "/v1/models/echo"), desk.ask("GET", "/v1/models/ech")

    assert shown.json() == desk.ask("GET", "/v1/models").json()["models"][0]
    assert (other.status_code, other.json()["code"]) == (404, "not-found")
    assert "'echo'" in other.json()["detail"]


def test_statistics_without_a_mask_scale_every_number(new_desk):
    """As the checkpoint means it: nothing was left out."""
    desk = new_desk()
    stats = {"q01": [-1.0, -2.0], "q99": [1.0, 2.0]}
    desk.policy.info = replace(desk.policy.info, norm_stats={"jaco": stats})
    (card,) = desk.ask("GET", "/v1/models").json()["models"]

    assert card["norm_stats"]["jaco"] == {**stats, "mask": [True, True]}


def test_a_new_lifecycle_is_loading():
    """Nothing is served before a policy is handed over."""
    assert Lifecycle().state == "loading"


def test_models_say_what_the_numbers_mean(desk):
    """The card holds the observation and action contracts, the statistics, and what was measured of the decoder."""
    (card,) = desk.ask("GET", "/v1/models").json()["models"]
    action = card["action"]

    assert (card["name"], card["family"], card["dtype"], card["parameters"]) == ("echo", "openvla", "float32", 7)
    assert card["observation"]["cameras"] == ["front"]
    assert card["observation"]["image_size"] == [224, 224]
    assert [field["unit"] for field in action["fields"]] == ["m"] * 3 + ["rad"] * 3 + ["1"]
    assert action["fields"][6]["meaning"] == action["gripper"] == "1 = open, 0 = closed"
    assert action["frame"] == "robot base"
    assert list(card["norm_stats"]) == ["jaco", "bridge_orig"]
    assert card["norm_stats"]["jaco"]["mask"] == [True] * 6 + [False]
    assert card["default_unnorm_key"] == "jaco"
    assert card["batch_invariant"] is False
    assert (card["weights"], card["weight_bytes"]) == ("as-is", 0)


def test_models_say_what_the_checkpoint_calls_the_cameras(new_desk):
    """Where it has other names than the robot; none where it has not."""
    named = replace(new_desk().policy.info, camera_slots={"front": "base_0_rgb"})
    cards = [desk.ask("GET", "/v1/models").json()["models"][0] for desk in (new_desk(), new_desk(info=named))]

    assert [card["observation"]["camera_slots"] for card in cards] == [{}, {"front": "base_0_rgb"}]


@pytest.mark.parametrize("mode", get_args(DraftMode))
def test_models_say_how_drafts_are_verified(new_desk, mode):
    """As it is configured; beside whether the decoder is batch invariant it says what exact means here."""
    desk = new_desk(info=replace(new_desk().policy.info, draft=mode))
    (card,) = desk.ask("GET", "/v1/models").json()["models"]

    assert card["draft"] == mode


def test_models_say_how_history_stands(new_desk):
    """On or off and why, what is kept, and what to be warned of; a memory without end has no budget."""
    forced = HistoryInfo(
        enabled=True, why="history.force is true", warning="nobody trained it", gate="novelty", slots=1
    )
    cards = [
        desk.ask("GET", "/v1/models/echo").json()["history"]
        for desk in (new_desk(), new_desk(info=replace(new_desk().policy.info, history=forced)))
    ]

    assert (cards[0]["enabled"], cards[0]["why"], cards[0]["trained"]) == (False, "history.enabled is false", False)
    assert cards[1] == asdict(forced)
    assert (cards[1]["warning"], cards[1]["gate"], cards[1]["budget_bytes"]) == ("nobody trained it", "novelty", None)


def test_models_wait_for_the_policy(new_desk):
    """While the policy loads there is nothing to describe; once it warms up there is."""
    desk = new_desk(loaded=False, ready=False)
    loading = desk.ask("GET", "/v1/models")
    desk.lifecycle.serve(desk.policy)
    warming = desk.ask("GET", "/v1/models")

    assert (loading.status_code, loading.json()["code"]) == (503, "not-ready")
    assert warming.status_code == 200


@pytest.fixture(scope="module")
def document(new_desk):
    """The OpenAPI document, which no test changes."""
    return new_desk().ask("GET", "/openapi.json").json()


def test_every_reference_of_the_description_leads_somewhere(document):
    """Each $ref names a schema that is there."""
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert names
    assert names <= set(document["components"]["schemas"])


def examples(operation):
    """The example requests of a described operation."""
    return operation["requestBody"]["content"]["application/json"]["examples"]


def described_answer(document, path):
    """The description of a 200."""
    return document["paths"][path]["post"]["responses"]["200"]


@pytest.mark.parametrize("path", ["/v1/act", "/v1/sessions/{session_id}/act"])
def test_the_native_examples_work(desk, document, path):
    """Each example frame of a native route is answered with everything that is described."""
    requests = examples(document["paths"][path]["post"])
    described = described_answer(document, path)["content"]["application/json"]["examples"]["readable"]["value"]
    replies = [
        desk.ask("POST", path.format(session_id="arm-1"), json=example["value"]) for example in requests.values()
    ]

    assert [reply.status_code for reply in replies] == [200] * len(requests)
    assert all(set(described) - {"session"} <= set(reply.json()) for reply in replies)


@pytest.mark.parametrize("path", ["/act"])
def test_the_examples_work(desk, document, path):
    """Each example frame of the description is answered with an action, in the kind of reply that is described."""
    requests = examples(document["paths"][path]["post"])
    replies = {name: desk.ask("POST", path, json=example["value"]) for name, example in requests.items()}

    assert {name: reply.status_code for name, reply in replies.items()} == dict.fromkeys(requests, 200)
    assert list(replies["openvla"].json()) == ["__numpy__", "dtype", "shape"]
    assert isinstance(replies["double-encoded"].json(), str)
    assert replies["png"].json()["actions"][0][:2] == [8.0, 8.0]
    described = described_answer(document, path)["content"]["application/json"]["examples"]["readable"]["value"]
    assert list(replies["session"].json()) == list(described)
    assert list(replies["session"].json()["cache"]) == list(described["cache"])
    assert list(replies["session"].json()["session"]) == list(described["session"])


def test_the_headers_of_an_answer_are_described(desk, document):
    """Each header that we add to an answer is in its description, and the session's request header too."""
    reply = desk.act(examples(document["paths"]["/act"]["post"])["session"]["value"])
    odd = desk.act({**examples(document["paths"]["/act"]["post"])["png"]["value"], "instruction": "go up."})
    plain = {"content-length", "content-type"}
    seen = set(reply.headers) | set(odd.headers)
    # Where a client has a name of its own for a camera; where a frame's chunk was to be held to the one before.
    rare = {"x-stillframe-cameras", "x-stillframe-rtc"}

    assert {name.lower() for name in described_answer(document, "/act")["headers"]} - rare == seen - plain
    assert [part["name"] for part in document["paths"]["/act"]["post"]["parameters"]] == [
        "X-Session-Id",
        "Idempotency-Key",
        "X-Stillframe-Chunk",
    ]


@pytest.mark.parametrize("path", ["/reset", "/v1/reset"])
def test_the_example_of_a_reset_works(desk, document, path):
    """The described request is answered with what is described."""
    (example,) = examples(document["paths"][path]["post"]).values()
    (described,) = described_answer(document, path)["content"]["application/json"]["examples"].values()
    replies = [desk.ask("POST", path, json=example["value"]).json() for _ in range(2)]

    assert replies[1] == described["value"]


# What no frame is answered with, and what a connection is before there is a request.
ELSEWHERE = {"method-not-allowed", "head-timeout", "head-too-large"}


def test_every_problem_is_described(document):
    """/act describes each code that a frame can be answered with, under its status; not those of the connection."""
    responses = document["paths"]["/act"]["post"]["responses"]
    described = {
        (int(status), code)
        for status, response in responses.items()
        if status != "200"
        for code in response["content"]["application/problem+json"]["examples"]
    }

    assert described == {(entry.status, code) for code, entry in PROBLEM_CODES.items() if code not in ELSEWHERE}


def test_what_is_recorded_is_in_the_status(desk):
    """Null where nothing is; else what became of frames, and why they are being lost."""
    before = desk.ask("GET", "/v1/status").json()["recording"]
    desk.lifecycle.recording = lambda: RecordingReport("failing", 20, 40, 3, 4096, 2**20, "the disk is full")

    assert before is None
    assert desk.ask("GET", "/v1/status").json()["recording"] == {
        "state": "failing", "kept": 20, "lost": 40, "sessionless": 3,
        "used_bytes": 4096, "budget_bytes": 2**20, "trouble": "the disk is full",
    }  # fmt: skip


def test_a_daemon_whose_engine_has_ended_is_not_ready(desk):
    """503 with the state; what a frame is told."""
    desk.lifecycle.fail()
    reply = desk.ask("GET", "/readyz")

    assert (reply.status_code, reply.json()["state"], reply.json()["code"]) == (503, "failed", "engine-ended")
    assert desk.ask("GET", "/livez").status_code == 200
