"""The small tokenizer: PaliGemma's habits, a piece a word and a piece a number."""

from __future__ import annotations

import sentencepiece

from stillframe.models.pi0.prompt import STATE_TEMPLATE
from stillframe_lab.train.pi0.vocabulary import BLANK, pieces, tokenizer_model
from stillframe_lab.train.recipe import INSTRUCTIONS


def processor() -> sentencepiece.SentencePieceProcessor:
    """The model, read by the library."""
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())


def test_a_word_is_a_piece_and_so_is_a_number() -> None:
    """No instruction and no state is spelt in letters."""
    text = STATE_TEMPLATE.format(instruction="pick up the red cube", state="-1 0 17 255")

    assert processor().encode(text, out_type=str) == [
        "Task:", *(BLANK + word for word in ("pick", "up", "the", "red", "cube")), ",", f"{BLANK}State:",
        f"{BLANK}-1", f"{BLANK}0", f"{BLANK}17", f"{BLANK}255", ";", "\n", "Action:", BLANK,
    ]  # fmt: skip
    assert len({len(processor().encode(goal.instruction)) for goal in INSTRUCTIONS if goal.task == "pick"}) == 1


def test_what_has_no_piece_is_spelt_in_bytes_and_nothing_is_lost() -> None:
    """As in PaliGemma: blanks stay, letters without a piece become their bytes."""
    text = "  reach é the cube "

    assert processor().decode(processor().encode(text)) == text
    assert "<0xC3>" in processor().encode(text, out_type=str)


def test_ids_of_paligemmas_kind() -> None:
    """Padding, end, begin, unknown; the same pieces each time the model is made."""
    own = processor()
    tokenizer_model.cache_clear()

    assert (own.pad_id(), own.eos_id(), own.bos_id(), own.unk_id()) == (0, 1, 2, 3)
    assert tuple(map(processor().id_to_piece, range(own.vocab_size()))) == pieces()
