"""PaliGemma's tokenizer, from its SentencePiece model, or from the tokenizer.json that newer lerobots save.

Knows the files; no prompt. `sentencepiece` is what trained and defines it, so its file is preferred: ids are its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from stillframe.errors import CheckpointError
from stillframe.files.json import reading
from stillframe.files.kinds import FETCH, mistaken, shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.prismatic.tokenizer import read_tokenizer

NAMES = (
    *("paligemma_tokenizer.model", "tokenizer.model", "tokenizer/tokenizer.model"),  # openpi's, Hugging Face's
    *("tokenizer.json", "tokenizer/tokenizer.json"),
)
BOS = "<bos>"
BYTE = re.compile("<0x([0-9A-F]{2})>")  # what is not in the vocabulary is spelt in these
MOST_BYTES = 64 * 2**20  # PaliGemma's has 4.1 MiB


class Tokenizer(Protocol):
    """Text to ids, and what it has no token for."""

    size: int
    bos: int

    def ids(self, text: str) -> list[int]:
        """Of a text alone: nothing before or behind it."""
        ...

    def unknown(self, text: str) -> tuple[str, ...]:
        """The parts of a text that the vocabulary has no token for, or only one for each of their bytes."""
        ...


class SentencePiece:
    """From a SentencePiece model."""

    def __init__(self, file: Path, vocabulary: int):
        """`vocabulary`: how many ids the decoder knows. Raises CheckpointError for another kind of file."""
        self._processor = _loaded(file)
        self.size: int = self._processor.vocab_size()
        self.bos: int = self._processor.bos_id()
        if self.bos < 0:
            raise CheckpointError(f"{shown(file)} has no token that begins a text; expected PaliGemma's tokenizer")
        if self.size > vocabulary:
            raise CheckpointError(
                f"{shown(file)} has ids up to {self.size - 1}, but the decoder's vocabulary ends at {vocabulary - 1}; "
                "check that tokenizer and weights belong together"
            )

    def ids(self, text: str) -> list[int]:
        """See Tokenizer."""
        return [*map(int, self._processor.encode(text))]

    def unknown(self, text: str) -> tuple[str, ...]:
        """See Tokenizer."""
        pieces: list[str] = self._processor.encode(text, out_type=str)
        bare = {piece for piece in pieces if self._processor.is_unknown(self._processor.piece_to_id(piece))}
        return _unknown(pieces, bare)


class Fast:
    """From a tokenizer.json."""

    def __init__(self, file: Path, vocabulary: int):
        """As above."""
        self._tokenizer = read_tokenizer(file, vocabulary)
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        bos = self._tokenizer.token_to_id(BOS)
        if bos is None:
            raise CheckpointError(f"{shown(file)} has no token {BOS!r}; expected PaliGemma's tokenizer")
        self.bos: int = bos

    def ids(self, text: str) -> list[int]:
        """See Tokenizer."""
        return [*self._tokenizer.encode(text, add_special_tokens=False).ids]

    def unknown(self, text: str) -> tuple[str, ...]:
        """See Tokenizer. Of a text without a byte of its own there is the token for what is unknown."""
        return _unknown(self._tokenizer.encode(text, add_special_tokens=False).tokens, {"<unk>"})


def open_tokenizer(file: Path, vocabulary: int) -> Tokenizer:
    """By the file's kind. `vocabulary`: how many ids the decoder knows. Raises CheckpointError."""
    return Fast(file, vocabulary) if file.suffix == ".json" else SentencePiece(file, vocabulary)


def _unknown(pieces: list[str], bare: set[str]) -> tuple[str, ...]:
    """Words out of bytes that follow each other, and pieces that are no token."""
    words, spelt = [], b""
    for piece in (*pieces, ""):
        if byte := BYTE.fullmatch(piece):
            spelt += bytes.fromhex(byte[1])
            continue
        words += [spelt.decode(errors="replace")] if spelt else []
        words += [piece] if piece in bare else []
        spelt = b""
    return tuple(dict.fromkeys(word for word in words if not word.isspace()))


def find_tokenizer(folder: CheckpointFolder) -> Path:
    """The file, by the names that it goes by. CheckpointError says where to get it."""
    for name in NAMES:
        if folder.has(name):
            return folder.file(name)
    raise no_tokenizer(folder)


def no_tokenizer(folder: CheckpointFolder) -> CheckpointError:
    """The error that says where to get it."""
    return CheckpointError(
        f"{shown(folder.path)} lacks the tokenizer; put PaliGemma's beside the weights as {NAMES[0]} or {NAMES[1]}: "
        "openpi fetches it from gs://big_vision/paligemma_tokenizer.model, and google/paligemma-3b-pt-224 has it as "
        f"{NAMES[1]}"
    )


def _loaded(file: Path) -> Any:
    import sentencepiece

    with reading(file):
        size = file.stat().st_size
    kind = mistaken(file) if size <= MOST_BYTES else f"has {size} bytes; expected at most {MOST_BYTES}"
    if kind is not None:
        raise CheckpointError(f"{shown(file)} is not a tokenizer: it {kind}")
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=file.read_bytes())
    except RuntimeError as error:
        raise CheckpointError(f"{shown(file)} is not a SentencePiece model ({shown(error)}); {FETCH}") from error
