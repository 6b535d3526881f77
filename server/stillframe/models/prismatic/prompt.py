"""An instruction as token ids: the checkpoint's own tokenizer and OpenVLA's prompt.

Knows text; no pictures. Source: models trained with prompt 'In: What action ... Out:' and a trailing lone space.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from stillframe.errors import CheckpointError, Unprocessable
from stillframe.files.kinds import shown
from stillframe.models.prismatic.tokenizer import read_tokenizer

TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
LONE_SPACE = "▁"  # id 29871 in Llama's vocabulary; the prompt has to end in it
CACHED_PROMPTS = 1024
UNKNOWN = "<unk>"  # Llama's, and ours
BYTE = re.compile("<0x[0-9A-F]{2}>")  # what is not in Llama's vocabulary is spelt in these


class PromptEncoder:
    """Turns instructions into ids, and caches the last thousand."""

    def __init__(self, file: Path, max_tokens: int, vocabulary: int | None = None, ending: tuple[int, ...] = ()):
        """`vocabulary`: how many ids the decoder knows; None: any. `ending`: ids behind the lone space.

        Raises CheckpointError for another tokenizer.
        """
        self._tokenizer = read_tokenizer(file, vocabulary)
        lone_space = self._tokenizer.token_to_id(LONE_SPACE)
        if lone_space is None:
            raise CheckpointError(f"{file} has no token {LONE_SPACE!r}, with which every prompt ends")
        self._lone_space: int = lone_space
        self.max_tokens, self._ending = max_tokens, ending
        self._check(file)
        self.ids = lru_cache(CACHED_PROMPTS)(self._ids)
        self.unknown_words = lru_cache(CACHED_PROMPTS)(self._unknown_words)

    @property
    def facts(self) -> dict[str, int]:
        """How many tokens there are, the highest id, and the ids that every prompt begins with and ends in."""
        ids, vocabulary = self._ids(""), self._tokenizer.get_vocab(with_added_tokens=True)
        return {
            "tokens": len(vocabulary),
            "highest_id": max(vocabulary.values()),
            "first_id": ids[0],
            "lone_space_id": self._lone_space,
            "last_id": ids[-1],
            "prompt_tokens": len(ids),
            "longest_prompt_tokens": self.max_tokens,
        }

    def _unknown_words(self, instruction: str) -> tuple[str, ...]:
        """The parts of an instruction that the vocabulary has no token for, or only one for each of their bytes."""
        text = str.lower(instruction)  # as the prompt has it
        start = TEMPLATE.index("{")
        end = start + len(text)
        read = self._tokenizer.encode(TEMPLATE.format(instruction=text))
        spans = [
            (max(first, start), min(last, end))
            for token, (first, last) in zip(read.tokens, read.offsets, strict=True)
            if token == UNKNOWN or BYTE.fullmatch(token)
        ]
        words = (text[first - start : last - start] for first, last in spans if first < last)
        return tuple(dict.fromkeys(word for word in words if not word.isspace()))

    def _check(self, file: Path) -> None:
        """Encode a prompt at load, rather than fail at every frame."""
        try:
            self._ids("")
        except Unprocessable as error:
            raise CheckpointError(f"there is no room for an instruction: without one, {error}") from error
        except Exception as error:
            raise CheckpointError(f"{file} cannot write the prompt: {shown(error)}") from error

    def _ids(self, instruction: str) -> tuple[int, ...]:
        """BOS, the lower-cased instruction in its template, the lone space, the family's ending."""
        ids = self._tokenizer.encode(TEMPLATE.format(instruction=instruction.lower())).ids
        if ids[-1] != self._lone_space:
            ids = [*ids, self._lone_space]
        ids = [*ids, *self._ending]
        if len(ids) > self.max_tokens:
            detail = f"the instruction takes {len(ids)} tokens; this policy reads at most {self.max_tokens}"
            raise Unprocessable("instruction-too-long", detail, pointer="/instruction")
        return tuple(ids)
