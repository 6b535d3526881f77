"""Plain transformers compiled: torch.compile over the decoder and a static cache, as its documentation advises.

Knows how it is compiled and where that is possible; the answers are stock.py's.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch
from transformers import StaticCache

COMPILED = "stock, compiled"
COMPILERS = ("c++", "g++", "clang++")
VERSIONS = 64  # of the decoder's code: of each model, dtype and shape one; beyond the limit torch runs it as it is


def compile_refusal(device: torch.device) -> str | None:
    """Why nothing can be compiled here; None where it can. A GPU's kernels need no compiler of the system's."""
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        return "torch.compile needs a C++ compiler, and there is none"
    return None


def compiled(llama: Any) -> Any:
    """The same decoder, compiled when it is first called with each shape: the prompt's and a token's."""
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, VERSIONS)
    return torch.compile(llama)


class StaticCaches:
    """Of each prompt length one cache, used again: compiled code asks for the same shapes in the same memory."""

    def __init__(self, config: Any):
        self._config = config
        self._known: dict[int, StaticCache] = {}

    def __call__(self, rows: int, tokens: int) -> StaticCache:
        """An empty cache for a prompt of `rows` and the tokens of an action."""
        cache = self._known.get(rows)
        if cache is None:
            cache = self._known[rows] = StaticCache(config=self._config, max_cache_len=rows + tokens)
        cache.reset()  # type: ignore[no-untyped-call]
        return cache
