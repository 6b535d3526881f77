"""Warnings about an instruction that is accepted unchanged but will change the action.

Knows of the policy only the words without a token; changes nothing.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator

from stillframe.domain import PolicyInfo

_MARKS = ".!?,;:\u3002\uff01\uff1f\u2026"
_PROMPT = re.compile(r"what\s+action\s+should\s+the\s+robot|^\s*(in|user|human)\s*:|\bout\s*:\s*$|</?s>", re.IGNORECASE)
_SPACES = re.compile(r"^\s|\s$|\s\s|[^\S ]")
_LISTED = 8  # words listed in a warning


def instruction_warnings(instruction: str, info: PolicyInfo) -> tuple[str, ...]:
    """Return one line per warning."""
    return tuple(_warnings(instruction, info))


def _warnings(instruction: str, info: PolicyInfo) -> Iterator[str]:
    if _PROMPT.search(instruction):
        yield "The instruction reads like a whole prompt; send the task alone, the daemon puts the prompt round it."
    if instruction.rstrip()[-1:] in _MARKS:
        mark = reprlib.repr(instruction.rstrip()[-1:])
        yield f"The instruction ends with {mark}, which changes the action; instructions end without a mark."
    if _SPACES.search(instruction):
        yield "The instruction has white space beside single spaces between words, which changes the action."
    if unknown := info.unknown_words(instruction):
        more = f" and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        yield f"The policy has no token for {', '.join(map(reprlib.repr, unknown[:_LISTED]))}{more}."
