from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file

from stillframe.domain import Observation
from stillframe.errors import Unprocessable
from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.openvla.model import OpenVLA
from stillframe.models.prismatic.network import PrismaticNetwork

LONE_SPACE_ID = 29871
INSTRUCTION = "put the spoon on the towel"
FP32 = {"rtol": 0, "atol": 1e-4}  # measured: features 0.0, logits 2.4e-6
# Two roundings of one network: the reference's bfloat16 lies up to 0.42 from its float32, ours up to 0.49 (AVX2, AVX512
# and AMX, measured), and the two may lie on either side. A word taken at random is 7 to 10 behind the highest.
BF16_ATOL = 1.0


def test_pixel_values_are_equal_to_the_bit(record: Mapping, walked: Mapping, frame: str) -> None:
    """Resizing and both normalisations give the reference's very bytes."""
    pixels = walked[f"{frame}_i0"].prepared.pixels.numpy()

    assert pixels.shape == (1, 6, 224, 224)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == str(record[f"{frame}/pixel_sha256"])


def test_prompt_ids_are_equal(record: Mapping, walked: Mapping, case: str) -> None:
    """The prompt is the reference's, and ends in the lone space."""
    ids = walked[case].prepared.ids.numpy()

    assert_array_equal(ids, [*record[f"{case}/input_ids"], LONE_SPACE_ID])


@torch.inference_mode()
def test_vision_features_match(record: Mapping, walked: Mapping, policy: OpenVLA, frame: str) -> None:
    """Both towers give the reference's features, DINOv2's first, in raster order."""
    features = policy.network.vision_backbone(walked[f"{frame}_i0"].prepared.pixels)[0].numpy()

    assert features.shape == (256, 80)
    assert_allclose(features[::4], record[f"{frame}/vision"], **FP32)


def test_projected_patches_match_and_follow_bos(record: Mapping, walked: Mapping, frame: str) -> None:
    """The projector's rows sit right behind BOS, where the layout says."""
    case = walked[f"{frame}_i0"]
    patches = case.prepared.layout.patches["image"]
    projected = case.rows[patches.start : patches.stop].numpy()

    assert patches == range(1, 257)
    assert_allclose(projected[::4], record[f"{frame}/projector"], **FP32)


def test_first_logits_match(record: Mapping, walked: Mapping, case: str) -> None:
    """The whole vocabulary's logits after the prefill are the reference's."""
    logits = walked[case].logits[0].numpy()

    assert_allclose(logits, record[f"{case}/first_logits"], **FP32)


def test_highest_logits_of_every_token_match(record: Mapping, walked: Mapping, case: str) -> None:
    """The eight highest logits of each of the seven tokens are the reference's."""
    highest = walked[case].logits.topk(8).values.flip(-1).numpy()

    assert_allclose(highest, record[f"{case}/top8_logits"], **FP32)


def test_tokens_and_actions_are_equal(record: Mapping, walked: Mapping, policy: OpenVLA, case: str) -> None:
    """Tokens, normalised actions and actions in the robot's units are the reference's, exactly."""
    chunk = walked[case].chunk

    assert_array_equal(chunk.tokens, record[f"{case}/tokens"])
    assert_array_equal(policy.config.bins.decode(chunk.tokens), record[f"{case}/norm_actions"])
    assert_array_equal(chunk.actions, record[f"{case}/actions"][None])
    assert chunk.actions.dtype == np.float64
    assert chunk.unnorm_key == "peer_tiny"


def test_bfloat16_logits_match_by_their_own_tolerance(record: Mapping, walked_bf16: Mapping, frame: str) -> None:
    """bfloat16 logits lie as near the reference's as two kernels' roundings may."""
    logits = walked_bf16[f"{frame}_i0"].logits[0].numpy()

    assert_allclose(logits, record[f"{frame}_i0/bf16_first_logits"], rtol=0, atol=BF16_ATOL)


def test_bfloat16_logits_are_rounded_like_the_references(record: Mapping, walked_bf16: Mapping, frame: str) -> None:
    """Over the whole vocabulary they stray from float32 no more than twice as far as the reference's own do."""
    exact = record[f"{frame}_i0/first_logits"]
    ours, theirs = walked_bf16[f"{frame}_i0"].logits[0].numpy(), record[f"{frame}_i0/bf16_first_logits"]

    assert np.square(ours - exact).mean() ** 0.5 <= 2 * np.square(theirs - exact).mean() ** 0.5


def test_bfloat16_tokens_are_as_good_as_the_highest(record: Mapping, walked_bf16: Mapping, case: str) -> None:
    """Each of the reference's bfloat16 tokens is our highest logit, or a tie within rounding."""
    logits = walked_bf16[case].logits
    theirs = torch.from_numpy(record[f"{case}/bf16_tokens"])
    behind = logits.max(-1).values - logits.gather(-1, theirs[:, None])[:, 0]

    assert behind.max() <= BF16_ATOL


def test_bfloat16_actions_follow_from_tokens(record: Mapping, policy: OpenVLA, case: str) -> None:
    """Tokens decode to the reference's actions whatever dtype chose them."""
    tokens = record[f"{case}/bf16_tokens"]
    actions = policy.statistics.scales["peer_tiny"].unnormalise(policy.config.bins.decode(tokens))

    assert_array_equal(actions, record[f"{case}/bf16_actions"])


def test_different_pictures_give_different_rows(walked: Mapping) -> None:
    """What the camera sees reaches every patch of the decoder's input."""
    first, second = (walked[f"{frame}_i0"].rows[1:257] for frame in ("f0", "f1"))

    assert (first - second).abs().amax(-1).min() > 1e-3


def test_every_tensor_takes_part_in_the_answer(policy: OpenVLA, golden_folder: Path, record: Mapping) -> None:
    """No weight is dead: the logits have a gradient in every tensor that is loaded."""
    network = PrismaticNetwork(policy.config)
    assert network.load_state_dict(load_file(golden_folder / "model.safetensors"), strict=False).missing_keys == []
    prepared = policy.prepare(Observation({"image": record["f0/frame"]}, INSTRUCTION))
    text, patches = network.language_model.embed(prepared.ids), network.patches(prepared.pixels)[0]
    rows, positions = torch.cat((text[:1], patches, text[1:])), torch.arange(len(patches) + len(text))
    hidden = network.language_model.model(
        rows, MaskedAttention(positions, torch.ones(len(rows), len(rows)).bool().tril())
    )
    network.language_model.logits(hidden[-1]).square().sum().backward()
    dead = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]

    assert dead == []


def test_two_pictures_are_refused(policy: OpenVLA, record: Mapping) -> None:
    """A policy of one camera says how many pictures it wants and which it got."""
    frame = record["f0/frame"]

    with pytest.raises(Unprocessable, match="exactly one picture; got: left, right"):
        policy.prepare(Observation({"left": frame, "right": frame}, "wait"))
