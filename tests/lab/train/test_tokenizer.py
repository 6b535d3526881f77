from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.models.prismatic.prompt import LONE_SPACE, PromptEncoder
from stillframe_lab.train.new_checkpoint import TEXT_VOCAB, WORDS, build_tokenizer
from stillframe_lab.train.recipe import INSTRUCTIONS

# A checkpoint's weights are tied to these: a word may be added at the end, none may move.
GOLDEN = {
    "reach the red cube": (1, 40, 6, 8, 9, 12, 41, 3),
    "reach the green cube": (1, 40, 6, 8, 10, 12, 41, 3),
    "reach the blue cube": (1, 40, 6, 8, 11, 12, 41, 3),
    "pick up the red cube": (1, 40, 4, 5, 8, 9, 12, 41, 3),
    "pick up the green cube": (1, 40, 4, 5, 8, 10, 12, 41, 3),
    "pick up the blue cube": (1, 40, 4, 5, 8, 11, 12, 41, 3),
}


@pytest.fixture
def encoder(tmp_path: Path) -> PromptEncoder:
    """The tokenizer as the daemon reads it from disk."""
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return PromptEncoder(tmp_path / "tokenizer.json", max_tokens=64)


def test_ids_are_stable(encoder: PromptEncoder) -> None:
    """The six instructions' prompts are these ids, now and later."""
    assert {each.instruction: encoder.ids(each.instruction) for each in INSTRUCTIONS} == GOLDEN


def test_every_prompt_starts_with_bos_and_ends_in_the_lone_space(encoder: PromptEncoder) -> None:
    """As in OpenVLA, and with no unknown word between."""
    tokenizer = build_tokenizer()
    unknown = tokenizer.token_to_id("<unk>")
    for instruction in INSTRUCTIONS:
        ids = encoder.ids(instruction.instruction)

        assert (ids[0], ids[-1]) == (tokenizer.token_to_id("<s>"), tokenizer.token_to_id(LONE_SPACE))
        assert unknown not in ids


def test_an_unknown_word_is_one_unknown_token(encoder: PromptEncoder) -> None:
    """A word we do not know takes its place and leaves the others theirs."""
    known, odd = encoder.ids("pick up the red cube"), encoder.ids("pick up the mauve cube")

    assert [new for new, old in zip(odd, known, strict=True) if new != old] == [0]


def test_capitals_do_not_matter(encoder: PromptEncoder) -> None:
    """Instructions are lower-cased on the way in."""
    assert encoder.ids("Pick UP the Red cube") == encoder.ids("pick up the red cube")


def test_the_vocabulary_fits_below_the_actions() -> None:
    """Text ids leave the action ids alone; words are distinct and lower case."""
    assert build_tokenizer().get_vocab_size() <= TEXT_VOCAB
    assert len(set(WORDS)) == len(WORDS)
    assert [word for word in WORDS if word != word.lower()] == []
