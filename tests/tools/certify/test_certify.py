"""Certificates of tiny checkpoints: what is promised holds, and where something is broken on purpose they say so."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.daemon.config import DaemonConfig
from stillframe.domain import Observation, SessionRef
from stillframe.engine.local import LocalPolicy
from stillframe.engine.session_state import SessionState
from stillframe.errors import StillframeError
from stillframe.models.base import PolicyModel
from stillframe.models.llama import speculative
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.recorder import Recorder
from stillframe.reuse.similarity import IdenticalPrefix, Similarity
from stillframe.tools.certify.arms import AGAIN, PLAIN
from stillframe.tools.certify.certificate import ArmResult, Certificate, canonical
from stillframe.tools.certify.run import NO_GPU

Deploy = Callable[..., DaemonConfig]
Certify = Callable[..., Certificate]

TICKS, ROBOTS = 5, 3  # of conftest's certificates
GOLDENS = Path(__file__).parents[2] / "goldens"
HELD = ("drafts exact", "drafts strict", "reuse exact", "batched")  # to equality, within rounding at worst
MEASURED = {"made", "versions"}  # of a certificate, beside its machine's load: what is not the same every time
STILL = 3  # the tick whose picture is the one before's


def arm(certificate: Certificate, name: str) -> ArmResult:
    """What a certificate says of one arm."""
    (found,) = (one for one in certificate.arms if one.name == name)
    return found


def without_times(certificate: Certificate) -> bytes:
    """All of a certificate that the same checkpoint gives every time."""
    document = {key: value for key, value in certificate.model_dump(mode="json").items() if key not in MEASURED}
    document["machine"].pop("load_average")
    for one in document["arms"]:
        one.pop("times")
    return canonical(document)


def test_every_promise_is_kept(made: Certificate) -> None:
    """On a CPU: what repeats is equal; drafts, kept keys and values, and batches are so or within rounding."""
    verdicts = {one.name: one.verdict for one in made.arms}

    assert not made.broken
    assert verdicts[PLAIN] == verdicts[AGAIN] == "equal"
    assert {verdicts[name] for name in HELD} <= {"equal", "within rounding"}
    assert (verdicts["graphs"], arm(made, "graphs").why) == ("not here", NO_GPU)
    assert {one.answers.ticks for one in made.arms if one.answers} == {TICKS}


def test_arms_do_what_they_are_named_for(made: Certificate) -> None:
    """Guesses save passes, modes reuse, a batch holds several frames; the plain arm does nothing of the kind."""
    plain, drafts, exact = (arm(made, name).answers for name in (PLAIN, "drafts exact", "reuse exact"))
    adaptive, batched = arm(made, "reuse adaptive").answers, arm(made, "batched").times
    served = arm(made, "as served")

    assert plain and drafts and exact and adaptive and batched and served.answers  # noqa: PT018 (all are here)
    assert (plain.passes, plain.reuse_ratio) == (7, 0)
    assert drafts.passes < plain.passes
    assert 0 < exact.reuse_ratio < adaptive.reuse_ratio
    assert batched.frames_per_pass == ROBOTS
    assert served.answers.passes < plain.passes
    assert served.answers.reuse_ratio == adaptive.reuse_ratio
    assert served.promise == "none"


def test_what_drifts_is_said(made: Certificate) -> None:
    """An arm that promises nothing is approximate where answers differ: ticks, tokens, distances and drift agree."""
    found = arm(made, "reuse adaptive")
    assert found.answers is not None
    answers, drift = found.answers, found.answers.drift

    assert found.verdict == "approximate"
    assert 0 < answers.equal < answers.ticks
    assert 0 < answers.actions_differ <= answers.ticks - answers.equal
    assert answers.actions_differ <= answers.tokens_differ < answers.tokens == 7 * answers.ticks
    assert 0 < drift.mean < drift.largest
    assert drift.p50 <= drift.p90 <= drift.largest
    assert max(one.largest for one in answers.distance.values()) > 0
    assert all(one.mean <= one.largest for one in answers.distance.values())
    assert answers.sha256 != arm(made, PLAIN).answers.sha256  # type: ignore[union-attr] # it is here


def test_the_same_again_gives_the_same_certificate(
    made: Certificate, tiny_folder: Path, deploy: Deploy, certified: Certify
) -> None:
    """All but the date, the times and the load."""
    again = certified(deploy(tiny_folder))

    assert without_times(again) == without_times(made)


def test_no_host_no_user_no_folder_is_named(made: Certificate, tiny_folder: Path) -> None:
    """A certificate is to be shown to others."""
    text = json.dumps(made.model_dump(mode="json"))

    assert str(tiny_folder.parent) not in text
    assert platform.node() not in text
    assert str(Path.home()) not in text


@pytest.mark.parametrize(
    "name", ["oft", "pi05", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cogact", "pi0"))]
)
def test_every_family_is_certified(
    request: pytest.FixtureRequest, deploy: Deploy, certified: Certify, name: str
) -> None:
    """Chunks from one pass, by a diffusion, by a flow: no token is guessed there, and alone every promise holds.

    Side by side they are within rounding; heads that draw for all robots at once promise no more.
    """
    folder = GOLDENS / "pi0" / f"{name}-micro" if "pi" in name else request.getfixturevalue(f"{name}_folder")
    found = certified(deploy(folder), ticks=2, robots=2)
    drafts, batched = arm(found, "drafts exact"), arm(found, "batched")

    assert [one.name for one in found.arms if one.verdict == "broken"] == []
    assert drafts.verdict == "not here"
    assert "nothing is guessed" in str(drafts.why)
    assert arm(found, AGAIN).verdict == "equal"
    assert batched.answers is not None
    assert batched.answers.drift.largest <= found.bound
    assert batched.answers.tokens == 0
    assert batched.answers.actions > batched.answers.ticks


def flawed(found: Certificate, *names: str) -> dict[str, list[int]]:
    """The broken ticks of some arms; the others keep their promises."""
    broken = {one.name: one.answers.broken_ticks for one in found.arms if one.answers and one.answers.broken_ticks}

    assert found.broken == bool(broken)
    assert {one.name for one in found.arms if one.verdict == "broken"} == {*broken} == {*names}
    return broken


def test_wrong_rows_out_of_a_cache_break_the_promise(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, deploy: Deploy, certified: Certify
) -> None:
    """Of the very tick that was answered from it, and of every arm that has the cache."""
    take = SessionState.take_vision_rows

    def spoilt(self: SessionState, prepared: Any) -> Any:
        rows = take(self, prepared)
        return rows.flip(0) if isinstance(rows, torch.Tensor) else rows

    monkeypatch.setattr(SessionState, "take_vision_rows", spoilt)
    broken = flawed(certified(deploy(tiny_folder), robots=2), "drafts exact", "drafts strict", "reuse exact", "batched")

    assert broken["drafts exact"][0] == broken["batched"][0] == STILL


def test_guesses_that_stand_unverified_break_the_promise(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, deploy: Deploy, certified: Certify
) -> None:
    """Drafts alone; what decodes without guesses stays equal."""
    monkeypatch.setattr(
        speculative, "_chosen", lambda token, verification, ids, draft: int(
            verification.ids[token] if draft.mode == "off" else ids[token]
        ),
    )  # fmt: skip
    flawed(certified(deploy(tiny_folder)), "drafts exact", "drafts strict")


def test_stale_keys_and_values_break_the_promise(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, deploy: Deploy, certified: Certify
) -> None:
    """Where mode exact takes every row for what it was."""

    def blind(self: IdenticalPrefix, tokens: Any, reference: Any) -> Similarity:
        found = compare(self, tokens, reference)
        return replace(found, static=torch.ones_like(found.static))

    compare = IdenticalPrefix.__call__
    monkeypatch.setattr(IdenticalPrefix, "__call__", blind)
    flawed(certified(deploy(tiny_folder)), "reuse exact")


def test_a_machine_that_does_not_repeat_breaks_the_first_promise(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, deploy: Deploy, certified: Certify, tiny_model: PolicyModel
) -> None:
    """The plain answers, again, are not the plain answers."""
    calls, embed = count(), type(tiny_model).embed

    def moody(self: Any, *words: Any) -> Any:
        noise = torch.Generator().manual_seed(next(calls))
        return [rows + torch.randn(rows.shape, generator=noise) for rows in embed(self, *words)]

    monkeypatch.setattr(type(tiny_model), "embed", moody)
    found = certified(deploy(tiny_folder), ticks=3, robots=2)

    assert arm(found, AGAIN).verdict == "broken"
    assert arm(found, PLAIN).verdict == "equal"


def test_weights_that_cannot_be_had_are_not_here(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, deploy: Deploy, certified: Certify
) -> None:
    """With the reason; a kind that a deployment serves is an arm of its own that promises nothing."""
    monkeypatch.setattr("stillframe.models.quantised.quantise.refusal", lambda *_: "this CPU has none")
    found = certified(deploy(tiny_folder, weights="int8"), ticks=1, weights=["fp8", "fp8"])

    assert [one.name for one in found.arms if one.why == "weights: this CPU has none"] == ["as served", "weights fp8"]
    assert (found.weights, found.settings["weights"]) == (["fp8"], "int8")
    assert arm(found, PLAIN).verdict == "equal"


@pytest.fixture
def recorded(tiny_model: PolicyModel, tmp_path: Path) -> Path:
    """Two sessions of a daemon, on disk; the second began anew after its first episode."""
    recorder = Recorder(tmp_path / "recording", max_bytes=2**30, log=logging.getLogger("test"))
    policy, now_s = LocalPolicy(tiny_model), 1e9
    for session, epoch, seq in (("left", 0, 0), ("left", 0, 1), ("right", 0, 0), ("right", 1, 0)):
        now_s += 0.1
        picture = np.random.default_rng(seq).integers(0, 255, (120, 160, 3), np.uint8)
        seen = Observation({"image": picture}, f"reach {session}")
        step = policy.answer(seen, SessionRef(session, epoch, seq))
        recorder.keep(session, "tiny-vla", RecordedFrame(now_s, seen, step))
    recorder.close()
    return tmp_path / "recording"


def test_frames_of_a_recording_are_shown(recorded: Path, tiny_folder: Path, deploy: Deploy, certified: Certify) -> None:
    """All of them, or the first; named by their digest, for the pictures stay where they are."""
    every, some = (certified(deploy(tiny_folder), ticks=most, frames=recorded, robots=2) for most in (60, 3))

    assert (every.frames.kind, every.frames.seed, every.frames.ticks) == ("recording", None, 4)
    assert some.frames.ticks == 3
    assert some.frames.sha256 != every.frames.sha256
    assert not every.broken


def test_a_recording_that_lacks_what_the_policy_reads_is_refused(
    recorded: Path, oft_folder: Path, deploy: Deploy, certified: Certify
) -> None:
    """With the arm, the tick and what to do."""
    with pytest.raises(StillframeError, match=r"plain cannot answer tick 0: "):
        certified(deploy(oft_folder), ticks=2, frames=recorded, robots=2)
