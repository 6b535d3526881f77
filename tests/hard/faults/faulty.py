"""`stillframe serve` with a model that fails, waits or answers nonsense when a file says so: `faulty.py FOLDER ...`.

Knows the seam between the engine and a model; the daemon is the real one. FOLDER holds the orders, named as they are:
fail, oom, nan, exit (each for one frame), hold (for as long as the file is there); `holding` appears while a frame is
held.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import stillframe.daemon.serve
from stillframe.cli import main

POLL_S, LONGEST_S = 0.005, 120.0


class Faulty:
    """A model and its folder of orders. A frame fails as late as it can: its keys and values are half written."""

    def __init__(self, model: Any, folder: Path):
        self._model = model
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def act(self, *arguments: Any) -> Any:
        """Compute, and then do what is ordered."""
        self._hold()
        decoded = self._model.act(*arguments)
        if self._ordered("fail"):
            raise RuntimeError("the secret of /etc/shadow at 0x7f00")
        if self._ordered("oom"):
            raise MemoryError
        if self._ordered("exit"):
            raise SystemExit(0)
        if self._ordered("nan"):
            return [_spoilt(one) for one in decoded]
        return decoded

    def _ordered(self, what: str) -> bool:
        """Whether this frame is to fail so; the order is then carried out."""
        try:
            (self._folder / what).unlink()
        except FileNotFoundError:
            return False
        return True

    def _hold(self) -> None:
        give_up_s = time.monotonic() + LONGEST_S
        while (self._folder / "hold").exists() and time.monotonic() < give_up_s:
            (self._folder / "holding").touch()
            time.sleep(POLL_S)
        (self._folder / "holding").unlink(missing_ok=True)


def _spoilt(decoded: Any) -> Any:
    """An action that is none."""
    return replace(decoded, chunk=replace(decoded.chunk, actions=np.full_like(decoded.chunk.actions, np.nan)))


if __name__ == "__main__":
    orders = Path(sys.argv.pop(1))
    open_model = stillframe.daemon.serve.open_model
    stillframe.daemon.serve.open_model = lambda *given: Faulty(open_model(*given), orders)  # type: ignore[assignment] # a model
    main()
