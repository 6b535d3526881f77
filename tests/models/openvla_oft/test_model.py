from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.domain import Observation
from stillframe.errors import Flaw, Unprocessable
from stillframe.models.base import Decoded, Prefilled, Prepared
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.reuse.kv import FrameKV, KVShape

PICTURE = np.full((224, 224, 3), 90, np.uint8)
STATE = np.linspace(-1, 1, 8)
ROWS = 4 * 7
Load = Callable[..., OpenVLAOFT]


def act(policy: OpenVLAOFT, *hidden: torch.Tensor) -> list[Decoded]:
    """What the policy makes of hidden rows."""
    shape = KVShape(2, 2, 8, 1, torch.float32, torch.device("cpu"))
    prepared = policy.prepare(observed(policy))
    draft = Draft(prepared.no_motion_tokens)
    with torch.inference_mode():
        return policy.act(
            [Prefilled(prepared, rows, FrameKV(shape.allocate()), draft) for rows in hidden],
            DecoderRunner(policy.decoder),
        )


def observed(policy: OpenVLAOFT, state: np.ndarray | None = STATE) -> Observation:
    """A picture from each camera."""
    return Observation(dict.fromkeys(policy.info.cameras, PICTURE), "lift it", state=state)


@pytest.mark.parametrize("cameras", [["image"], ["image", "wrist"], ["image", "left", "right"]], ids=len)
@pytest.mark.parametrize("state", [True, False], ids=["state", "no-state"])
def test_the_layout_covers_every_row(oft: Path, load: Load, cameras: list[str], *, state: bool) -> None:
    """BOS, pictures, state, text, the action's places and the stop token lie end to end, and all are embedded."""
    policy = load(oft, cameras=cameras, use_proprio=state)
    prepared = policy.prepare(observed(policy))
    layout, patches = prepared.layout, 256 * len(cameras)

    assert [*layout.patches.values()] == [range(1 + 256 * at, 257 + 256 * at) for at in range(len(cameras))]
    assert layout.state == range(1 + patches, 1 + patches + state)
    assert layout.text == range(layout.state.stop, layout.state.stop + len(prepared.ids) - 1)
    assert layout.action == range(layout.text.stop, layout.text.stop + ROWS)
    assert layout.tail == range(layout.action.stop, layout.action.stop + 1)
    assert layout.mask is policy.mask is Mask.BIDIRECTIONAL
    assert len(policy.embed([prepared])[0]) == layout.prompt_rows == layout.total_rows
    assert layout.total_rows == policy.fixed_rows + len(prepared.ids) - 1
    assert layout.answer_rows == policy.answer_rows


@torch.inference_mode()
def test_rows_are_what_the_layout_says(oft: Path, load: Load) -> None:
    """The state is one row behind the pictures; the action's places are zeros; the stop token keeps its embedding."""
    policy = load(oft)
    prepared = policy.prepare(observed(policy))
    (rows,), layout = policy.embed([prepared]), prepared.layout
    assert policy.projector is not None
    assert prepared.state is not None

    assert torch.equal(rows[0], policy.decoder.embed(prepared.ids[:1])[0])
    assert torch.equal(rows[layout.state.start], policy.projector(prepared.state[None])[0])
    assert torch.equal(rows[layout.text.start : layout.text.stop], policy.decoder.embed(prepared.ids[1:]))
    assert not rows[layout.action.start : layout.action.stop].any()
    assert torch.equal(rows[layout.tail.start], policy.decoder.embed(torch.tensor([2]))[0])


@torch.inference_mode()
def test_frames_embedded_together_are_what_each_is_alone(oft: Path, load: Load) -> None:
    """Each with its own state and its own text."""
    policy = load(oft)
    frames: list[Prepared] = [
        policy.prepare(Observation({"image": PICTURE + shade}, text, state=STATE * shade))
        for shade, text in ((0, "lift it"), (1, "put the cube down"))
    ]
    for frame, rows in zip(frames, policy.embed(frames), strict=True):
        torch.testing.assert_close(rows, policy.embed([frame])[0], rtol=0, atol=1e-5)


def test_each_number_is_read_from_the_row_before_its_place(oft: Path, load: Load) -> None:
    """The first of the rows that are read says the first, and the last two say nothing."""
    policy = load(oft)
    hidden = torch.randn(policy.answer_rows, 16, generator=torch.Generator().manual_seed(1))
    (whole,) = act(policy, hidden)
    (moved,) = act(policy, torch.cat((hidden[:ROWS], hidden[ROWS:] + 5)))
    (first,) = act(policy, torch.cat((hidden[:1] + 1, hidden[1:])))
    assert policy.head is not None

    np.testing.assert_array_equal(whole.normalised, moved.normalised)
    changed = np.abs(whole.normalised - first.normalised).max(axis=1) > 0
    assert changed.tolist() == [True, False, False, False]
    assert whole.normalised.shape == whole.chunk.actions.shape == (4, 7)
    assert whole.passes == 0


def test_chunks_decoded_together_are_what_each_is_alone(oft: Path, load: Load) -> None:
    """To the bit, for each is decoded by itself."""
    policy = load(oft)
    hidden = [torch.randn(policy.answer_rows, 16, generator=torch.Generator().manual_seed(at)) for at in range(3)]

    for own, together in zip(hidden, act(policy, *hidden), strict=True):
        np.testing.assert_array_equal(act(policy, own)[0].chunk.actions, together.chunk.actions)


def test_a_chunk_is_scaled_by_its_statistics(oft: Path, load: Load) -> None:
    """With the 1e-8 that the reference adds to each range; the gripper passes through."""
    policy = load(oft)
    (decoded,) = act(policy, torch.randn(policy.answer_rows, 16, generator=torch.Generator().manual_seed(1)))
    scale = policy.statistics.scales["jaco_sim"]
    expected = 0.5 * (decoded.normalised + 1) * (scale.q99 - scale.q01 + 1e-8) + scale.q01

    np.testing.assert_allclose(
        decoded.chunk.actions, np.where(scale.mask, expected, decoded.normalised), rtol=1e-12, atol=0
    )
    assert decoded.chunk.unnorm_key == "jaco_sim"


def test_tokens_say_a_chunk(oft: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest of each row, action after action."""
    policy = load(oft, action_head="discrete")
    ids = policy.config.bins.ids.stop - 1 - torch.arange(ROWS)
    monkeypatch.setattr(policy.decoder, "logits", lambda _: torch.eye(policy.decoder.config.vocab_size)[ids])
    (decoded,) = act(policy, torch.ones(policy.answer_rows, 16))

    assert decoded.refusal is None
    np.testing.assert_array_equal(decoded.chunk.tokens, ids.numpy())
    np.testing.assert_array_equal(decoded.normalised, policy.config.bins.decode(ids.numpy()).reshape(4, 7))


def test_tokens_that_are_text_are_no_action(oft: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the likeliest of all is a word, or none is likelier, there is no chunk, and no other in its place."""
    policy = load(oft, action_head="discrete")
    (flat,) = act(policy, torch.zeros(policy.answer_rows, 16))
    (broken,) = act(policy, torch.full((policy.answer_rows, 16), torch.nan))
    ids = torch.full((ROWS,), policy.config.bins.ids.start)
    ids[-1] -= 1
    monkeypatch.setattr(policy.decoder, "logits", lambda _: torch.eye(policy.decoder.config.vocab_size)[ids])
    (word,) = act(policy, torch.ones(policy.answer_rows, 16))

    found = [each.refusal and each.refusal.flaw for each in (flat, broken, word)]
    assert found == [Flaw.FLAT, Flaw.NON_FINITE, Flaw.NO_ACTION_TOKEN]
    assert all(np.isnan(each.chunk.actions).all() for each in (flat, broken, word))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "reads the robot's state, and the frame has none; send 8 numbers: x [m]"),
        (np.zeros(7), "the state is 7 numbers; this policy reads 8 numbers"),
        (np.full(8, np.nan), "number 0 of the state, x, is nan"),
    ],
    ids=["none", "short", "nan"],
)
def test_a_state_that_cannot_be_read(oft: Path, load: Load, state: np.ndarray | None, said: str) -> None:
    """Before any picture is looked at."""
    policy = load(oft)
    with pytest.raises(Unprocessable) as caught:
        policy.prepare(observed(policy, state))

    assert said in str(caught.value)
    assert (caught.value.pointer or "").startswith("/state")


def test_what_is_wrong_first_is_said_first(oft: Path, load: Load) -> None:
    """The data set, then the state, then the pictures: one after the other as each is put right."""
    policy, pictures = load(oft), dict.fromkeys(("image", "other"), PICTURE)
    wrong = Observation(pictures, "lift it", "elsewhere")
    tries = (wrong, replace(wrong, unnorm_key=None), replace(wrong, unnorm_key=None, state=STATE))
    codes = []
    for each in tries:
        with pytest.raises(Unprocessable) as caught:
            policy.prepare(each)
        codes.append(caught.value.code)

    assert codes == ["unknown-unnorm-key", "missing-state", "unknown-camera"]


def test_a_policy_that_reads_no_state_ignores_one(oft: Path, load: Load) -> None:
    """Whatever it is."""
    policy = load(oft, use_proprio=False)

    assert policy.prepare(observed(policy, np.full(3, np.nan))).state is None


def test_the_longest_instruction_that_fits_is_served(oft: Path, edit: Callable[..., None], load: Load) -> None:
    """Pictures, state, text, places and the stop token may fill the decoder's positions; one word more is refused."""
    edit("config.json", lambda config: config["text_config"].update(max_position_embeddings=310))
    policy = load(oft)
    room = 310 - policy.fixed_rows + 1
    words = next(count for count in range(40) if len(policy.prompt.ids(" ".join(["cube"] * count))) == room)
    prepared = policy.prepare(Observation({"image": PICTURE}, " ".join(["cube"] * words), state=STATE))

    assert prepared.layout.total_rows == 310
    with pytest.raises(Unprocessable, match=f"this policy reads at most {room}"):
        policy.prepare(Observation({"image": PICTURE}, " ".join(["cube"] * (words + 1)), state=STATE))
