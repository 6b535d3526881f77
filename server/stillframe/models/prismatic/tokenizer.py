"""A checkpoint's tokenizer, read within bounds and held to the decoder's vocabulary.

Knows tokenizer.json, and where there is none sentencepiece's tokenizer.model; no prompt.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from tokenizers import Tokenizer

from stillframe.errors import CheckpointError
from stillframe.files.json import reading
from stillframe.files.kinds import FETCH, mistaken, shown, words
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.prismatic.from_sentencepiece import ADDED, CONFIG, convert

FAST, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"
MOST_BYTES = 64 * 2**20  # Llama's has 1.8 MiB, Gemma's 33


def tokenizer_file(folder: CheckpointFolder) -> Path:
    """What the tokenizer is read from. Raises CheckpointError where there is neither."""
    return folder.file(SENTENCEPIECE if not folder.has(FAST) and folder.has(SENTENCEPIECE) else FAST)


def tokenizer_names(names: Container[str]) -> list[str]:
    """Files of the tokenizer that are read, of those among `names`."""
    return [FAST] if FAST in names else [name for name in (SENTENCEPIECE, CONFIG, ADDED) if name in names]


def read_tokenizer(file: Path, vocabulary: int | None = None) -> Tokenizer:
    """Read it; CheckpointError says what the file is instead, or which id the decoder (None: any) does not know."""
    with reading(file):
        size = file.stat().st_size
    if size > MOST_BYTES:
        raise CheckpointError(f"{shown(file)} is not a tokenizer: it has {size} bytes; expected at most {MOST_BYTES}")
    kind = mistaken(file)
    if kind is not None:
        raise CheckpointError(f"{shown(file)} is not a tokenizer: it {kind}")
    tokenizer = convert(file) if file.name == SENTENCEPIECE else _parsed(file)
    # As transformers does for a text alone: what the file was last used with is no part of a prompt.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if vocabulary is not None and highest >= vocabulary:
        raise CheckpointError(
            f"{shown(file)} has ids up to {highest}, but the decoder's vocabulary ends at {vocabulary - 1} "
            "by config.json; check that tokenizer and weights belong together"
        )
    return tokenizer


def _parsed(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except BaseException as error:  # the library's panics are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = None if file.read_bytes()[:1] in (b"{", b"[") else words(file)
        why = f": it {text}" if text else f" ({shown(error)}); {FETCH}"
        raise CheckpointError(f"{shown(file)} is not a tokenizer{why}") from error
