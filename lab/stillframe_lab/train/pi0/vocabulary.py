"""The tokenizer of jaco-tiny-pi0 and -pi05: a SentencePiece model with PaliGemma's habits and some hundred pieces.

Knows words and numbers; no network. As in PaliGemma no blank is put before a text, none is taken away, and what has no
piece is spelt in bytes. Unlike there a number of the state is one piece: a small network need not learn to read digits.
"""

from __future__ import annotations

import io
from functools import cache

import sentencepiece

from stillframe.models.pi0.prompt import BINS
from stillframe_lab.train.new_checkpoint import WORDS

BLANK = "\u2581"  # how SentencePiece writes one
MARKS = ("\n", BLANK, ",", ";", ".", "?", "Task:", f"{BLANK}State:", "Action:")
NUMBERS = tuple(range(-1, BINS))  # a state's bins
BOS = 2  # id of what every prompt begins with
SPECIAL = 4 + 256  # padding, end, begin, unknown; bytes


@cache
def tokenizer_model() -> bytes:
    """The .model file: the same each time."""
    pieces = [*MARKS, *(f"{BLANK}{number}" for number in NUMBERS), *(form for word in WORDS for form in forms(word))]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS),
        model_writer=written,
        model_type="bpe",
        vocab_size=SPECIAL + len(pieces) + len(set("".join(WORDS))),
        hard_vocab_limit=False,
        user_defined_symbols=pieces,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        bos_id=BOS,
        unk_id=3,
        minloglevel=2,
        num_threads=1,
    )
    return written.getvalue()


def forms(word: str) -> tuple[str, str]:
    """A word at a text's beginning, and behind a blank."""
    return word, BLANK + word


@cache
def pieces() -> tuple[str, ...]:
    """By id."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())
    return tuple(processor.id_to_piece(id_) for id_ in range(processor.vocab_size()))
