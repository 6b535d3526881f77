from __future__ import annotations

from types import SimpleNamespace

import pytest

from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.prismatic.vision import TowerConfig
from stillframe_lab.evaluation.macs import decoder_macs, decoder_pass, vision_work

TOY = DecoderConfig(
    vocab_size=11,
    hidden_size=4,
    intermediate_size=3,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
)
# A row of a layer: q and o 4 x 4 each, k and v 4 x 2 each, three of 4 x 3 in the feed-forward; 8 for each key it sees.
ROW = 2 * 16 + 2 * 8 + 3 * 12


def test_a_whole_prompt_by_hand() -> None:
    """Five rows, each looking at five keys; in the second layer only the last, of which the action's token comes."""
    assert decoder_macs(TOY, rows=5, reused=[0, 0], action_tokens=1) == (5 + 1) * (ROW + 5 * 8) + 4 * 16 + 4 * 11


def test_reused_rows_cost_keys_and_values_once_and_are_looked_at() -> None:
    """A row costs two projections in the layer in which it leaves and nothing after; the others still see every key."""
    assert decoder_macs(TOY, rows=5, reused=[2, 3], action_tokens=1) == (3 + 1) * (ROW + 5 * 8) + 4 * 16 + 4 * 11


def test_guesses_are_rows_of_the_prefill() -> None:
    """Two more rows behind the prompt, which all see each other; the head speaks of two more tokens."""
    assert decoder_macs(TOY, rows=5, reused=[0, 2], action_tokens=3) == (7 + 3) * (ROW + 7 * 8) + 4 * 16 + 3 * 4 * 11


def test_each_further_pass_is_one_over_the_guesses() -> None:
    """Two rows, which see seven keys, in two layers, and the head for each."""
    one, three = (decoder_macs(TOY, 5, [0, 2], action_tokens=3, passes=passes) for passes in (1, 3))

    assert three - one == 2 * (2 * 2 * (ROW + 7 * 8) + 2 * 4 * 11)


def test_seven_billion() -> None:
    """OpenVLA's prefill of 291 rows is the published 1.91 T: the formula is that of the field."""
    prefill = decoder_pass(DecoderConfig(vocab_size=32064), [291] * 33, keys=291, heads=0, item_bytes=2)

    assert prefill.macs == pytest.approx(1.91e12, rel=0.005)


def test_a_pass_multiplies_what_the_step_does() -> None:
    """A prefill with reused rows and a later pass come to the whole step's multiply-adds."""
    prefill = decoder_pass(TOY, [7, 7, 3], keys=7, heads=3, item_bytes=2)
    again = decoder_pass(TOY, [2, 2, 2], keys=7, heads=2, item_bytes=2)

    assert (prefill + again).macs == decoder_macs(TOY, rows=5, reused=[0, 2], action_tokens=3, passes=2)


def test_a_pass_reads_every_weight_once() -> None:
    """Two layers and the head, and the keys and values of seven rows in both; of several robots the latter each."""
    weights, looked_at = 2 * ROW + 4 * 11, 2 * 7 * (2 + 2)
    alone, three = (decoder_pass(TOY, [7, 7, 3], keys=7, heads=3, item_bytes=2, robots=robots) for robots in (1, 3))

    assert (alone.read_bytes, three.read_bytes) == (2 * (weights + looked_at), 2 * (weights + 3 * looked_at))
    assert three.macs == 3 * alone.macs


def test_vision_by_hand() -> None:
    """Two towers of one read block each, four patches, and a projector of four times their width."""
    tower = TowerConfig(4, 2, 1, 2.0, prefix_tokens=1, layer_scale=False, image_px=28)
    model = SimpleNamespace(config=SimpleNamespace(towers=(tower, tower)), decoder=SimpleNamespace(config=TOY))
    block, projector = 4 * 16 + 2 * 4 * 8, 4 * 8 * 8 + 4 * 8 * 4 + 4 * 4
    one = 4 * 3 * 14 * 14 * 4 + 5 * (block + 2 * 5 * 4)

    assert vision_work(model, item_bytes=4).macs == 2 * one + 4 * projector
    assert vision_work(model, item_bytes=4, robots=3).read_bytes == 4 * (2 * block + projector)
