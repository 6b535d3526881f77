"""An instruction, and for pi0.5 the robot's state, as PaliGemma's token ids.

Knows text and bins; no picture. Source: openpi models/tokenizer.py; lerobot policies/pi0, policies/pi05. The references
cut a prompt that is too long at its end, where what the network was trained to wait for stands: here it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.pi0.tokenizer import Tokenizer

CACHED_PROMPTS = 1024
BINS = 256  # of a state's number from -1 to 1; below is -1
STATE_TEMPLATE = "Task: {instruction}, State: {state};\nAction: "


@dataclass(frozen=True)
class PromptForm:
    """How a checkpoint was trained to read."""

    max_tokens: int  # 48 for pi0, 200 for pi0.5
    with_state: bool = False  # pi0.5 with the state in words
    cleaned: bool = True  # without underscores and line breaks; lerobot's pi0 leaves them


class PromptEncoder:
    """Turns instructions and states into ids; caches the last thousand prompts."""

    def __init__(self, tokenizer: Tokenizer, form: PromptForm):
        """Raises CheckpointError for a tokenizer that cannot write the prompt."""
        self._tokenizer, self.form = tokenizer, form
        self._newline = tokenizer.ids("\n")
        if len(self._newline) != 1:
            raise CheckpointError("the tokenizer has no token of its own for a line break; expected PaliGemma's")
        self._encoded = lru_cache(CACHED_PROMPTS)(self._encode)
        self.unknown_words = lru_cache(CACHED_PROMPTS)(self._unknown_words)

    @property
    def facts(self) -> dict[str, int]:
        """How many tokens there are, and the ids that every prompt begins with and a text ends in."""
        return {
            "tokens": self._tokenizer.size,
            "first_id": self._tokenizer.bos,
            "newline_id": self._newline[0],
            "longest_prompt_tokens": self.form.max_tokens,
        }

    def text(self, instruction: str, state: NDArray[np.float64] | None) -> str:
        """The prompt in words; `state` [numbers] normalised, where the form has it."""
        words = instruction.strip().replace("_", " ").replace("\n", " ") if self.form.cleaned else instruction
        if state is not None:
            return STATE_TEMPLATE.format(instruction=words, state=" ".join(map(str, discretised(state))))
        return words if words.endswith("\n") and not self.form.cleaned else f"{words}\n"

    def ids(self, instruction: str, state: NDArray[np.float64] | None = None) -> tuple[int, ...]:
        """BOS, the text, a line break; with a state what `text` has. Raises Unprocessable for one that is too long."""
        ids: tuple[int, ...] = self._encoded(self.text(instruction, state))
        if len(ids) > self.form.max_tokens:
            detail = f"the prompt takes {len(ids)} tokens; this policy reads at most {self.form.max_tokens}"
            raise Unprocessable("instruction-too-long", detail, pointer="/instruction")
        return ids

    def _encode(self, text: str) -> tuple[int, ...]:
        """A cleaned text and its line break are encoded one by one, as openpi does."""
        if self.form.cleaned and text.endswith("\n"):
            return self._tokenizer.bos, *self._tokenizer.ids(text[:-1]), *self._newline
        return self._tokenizer.bos, *self._tokenizer.ids(text)

    def _unknown_words(self, instruction: str) -> tuple[str, ...]:
        return self._tokenizer.unknown(self.text(instruction, None))


def discretised(state: NDArray[np.float64]) -> list[int]:
    """The bin of each number: 0 to 255 from -1 to 1, 255 above, -1 below."""
    edges = np.linspace(-1, 1, BINS + 1)[:-1]
    return [int(bin_) for bin_ in np.digitize(state, edges) - 1]
