from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.prismatic.prompt import PromptEncoder

LONE_SPACE_ID = 29871
TINY = Path(__file__).parents[3] / "checkpoints" / "jaco-tiny"
MICRO = Path(__file__).parents[2] / "goldens" / "openvla-micro" / "tokenizer.json"
ENCODER, ANOTHER = PromptEncoder(MICRO, max_tokens=64), PromptEncoder(MICRO, max_tokens=64)
PREFIX = [1, 295, 29936, 285, 288, 289, 261, 287, 286, 266, 414, 410, 261]  # <s> In: What ... robot take to
SUFFIX = [29938, 13, 608, 29936, LONE_SPACE_ID]  # ?\nOut: and the lone space


@pytest.mark.parametrize("instruction", ["put the spoon on the towel", "wait", "", "{instruction} %s {0}"])
def test_the_template_surrounds_the_instruction(instruction: str) -> None:
    """BOS and the question go before, '?', 'Out:' and the lone space behind, whatever the words hold."""
    ids = list(ENCODER.ids(instruction))

    assert ids[:10] == PREFIX[:10]
    assert ids[-5:] == SUFFIX


def test_instructions_are_lower_cased() -> None:
    """Capitals do not change the prompt; words do."""
    assert ENCODER.ids("Open the DRAWER") == ENCODER.ids("open the drawer")
    assert ENCODER.ids("open the drawer") != ENCODER.ids("close the drawer")


@given(instruction=st.text(st.characters(codec="utf-8"), max_size=12))
def test_any_text_ends_in_one_lone_space(instruction: str) -> None:
    """Every prompt starts with BOS, ends in the lone space once, and is the same each time."""
    ids = ENCODER.ids(instruction)

    assert (ids[0], ids[-1]) == (1, LONE_SPACE_ID)
    assert ids[-2] == SUFFIX[-2]
    assert ANOTHER.ids(instruction) == ids


def test_too_long_an_instruction_is_refused_with_both_numbers() -> None:
    """The prompt's length and the limit are in the error; at the limit it is served."""
    ids = ENCODER.ids("put the spoon on the towel")
    exact = PromptEncoder(MICRO, max_tokens=len(ids))
    short = PromptEncoder(MICRO, max_tokens=len(ids) - 1)

    assert exact.ids("put the spoon on the towel") == ids
    with pytest.raises(Unprocessable, match=f"takes {len(ids)} tokens; this policy reads at most {len(ids) - 1}") as e:
        short.ids("put the spoon on the towel")
    assert (e.value.code, e.value.pointer) == ("instruction-too-long", "/instruction")


def test_prompts_are_remembered_within_a_bound() -> None:
    """The same instruction is tokenised once; the memory does not grow without end."""
    encoder = PromptEncoder(MICRO, max_tokens=64)
    first = encoder.ids("stack the blocks")

    assert encoder.ids("stack the blocks") is first
    assert (encoder.ids.cache_info().hits, encoder.ids.cache_info().misses) == (1, 1)
    assert encoder.ids.cache_info().maxsize == 1024


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    """Another JSON under that name is named."""
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")

    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a tokenizer"):
        PromptEncoder(file, max_tokens=64)


def test_a_tokenizer_without_the_lone_space(tmp_path: Path) -> None:
    """The token that every prompt ends in has to be in the vocabulary."""
    file = tmp_path / "tokenizer.json"
    words = {"<unk>": 0, "a": 1}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}
    file.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))

    with pytest.raises(CheckpointError, match="has no token '▁', with which every prompt ends"):
        PromptEncoder(file, max_tokens=64)


def tokenizer_of(file: Path, words: dict[str, int], last: str | None = None) -> Path:
    """Write a tokenizer of whole words; `last`: one that it puts behind every text itself."""
    model = {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}
    pieces = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": last, "type_id": 0}}]
    specials = {last: {"id": last, "ids": [words[last]], "tokens": [last]}} if last else {}
    behind = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": specials}
    document = {"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": {"type": "Whitespace"}}
    file.write_text(json.dumps(document | ({"post_processor": behind} if last else {})))
    return file


def test_a_tokenizer_that_ends_in_the_lone_space_by_itself_gets_no_second(tmp_path: Path) -> None:
    """The prompt ends in one, whichever side puts it there, and whichever id it has."""
    words = {"▁": 0, "<unk>": 1, "In": 2}
    own, ours = tokenizer_of(tmp_path / "own.json", words, "▁"), tokenizer_of(tmp_path / "ours.json", words)
    ids = PromptEncoder(own, max_tokens=64).ids("wait")

    assert ids[-1] == 0
    assert ids.count(0) == 1
    assert PromptEncoder(ours, max_tokens=64).ids("wait") == ids


def test_words_without_a_token_are_named() -> None:
    """Of the instruction alone, in small letters, each once; the prompt's own question mark is none of it."""
    encoder = PromptEncoder(TINY / "tokenizer.json", 100)

    assert encoder.unknown_words("pick up the red cube") == ()
    assert encoder.unknown_words("Pick up the RED Xylophone or the xylophone now") == ("xylophone", "or", "now")
    assert encoder.unknown_words("pick up the red cube.") == ("cube.",)
