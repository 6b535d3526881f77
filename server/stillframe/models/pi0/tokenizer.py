"""PaliGemma's tokenizer, from its SentencePiece model.

Knows the file; no prompt. `sentencepiece` is what trained and defines it, so ids are its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.files.json import reading
from stillframe.files.kinds import FETCH, mistaken, shown
from stillframe.models.checkpoint import CheckpointFolder

NAMES = ("paligemma_tokenizer.model", "tokenizer.model", "tokenizer/tokenizer.model")  # openpi's, Hugging Face's
BYTE = re.compile("<0x([0-9A-F]{2})>")  # what is not in the vocabulary is spelt in these
MOST_BYTES = 64 * 2**20  # PaliGemma's has 4.1 MiB


class Tokenizer:
    """Text to ids, and what it has no token for."""

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
        """Of a text alone: nothing before or behind it."""
        return [*map(int, self._processor.encode(text))]

    def unknown(self, text: str) -> tuple[str, ...]:
        """The parts of a text that the vocabulary has no token for, or only one for each of their bytes."""
        words, spelt = [], b""
        for piece in (*self._processor.encode(text, out_type=str), ""):
            if byte := BYTE.fullmatch(piece):
                spelt += bytes.fromhex(byte[1])
                continue
            words += [spelt.decode(errors="replace")] if spelt else []
            spelt = b""
            if piece and self._processor.is_unknown(self._processor.piece_to_id(piece)):
                words.append(piece)
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
