"""What the last frame of each robot left for its next one, and who was here longest ago.

Knows order and identity; no lock, and not who a robot is: each frame says whose it is. For one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from stillframe.domain import Image, KeyframeReason, SessionRef
from stillframe.engine.drafts import Drafts
from stillframe.engine.drift import Caution
from stillframe.engine.history import Past
from stillframe.models.base import Prepared
from stillframe.reuse.state import ReuseState

P = TypeVar("P")
MOST_SESSIONS = 4096  # known at once, though nobody should say which are over; the longest idle one goes


@dataclass(frozen=True)
class Seen:
    """What a session's last frame showed, and what the towers made of it."""

    views: Mapping[str, Image]
    ids: Tensor  # of the text
    rows: Tensor  # [prompt_rows, width]

    @classmethod
    def of(cls, prepared: Prepared, rows: Tensor) -> Seen:
        """Copies the pictures: a simulator may draw the next one over them."""
        return cls({name: view.copy() for name, view in prepared.views.items()}, prepared.ids, rows)

    def rows_of(self, prepared: Prepared) -> Tensor | None:
        """The same rows for the same pictures and text, to the bit; else None."""
        alike = prepared.views.keys() == self.views.keys() and torch.equal(prepared.ids, self.ids)
        same = alike and all(np.array_equal(view, self.views[name]) for name, view in prepared.views.items())
        return self.rows if same else None


@dataclass
class Session(Generic[P]):
    """One robot."""

    ref: SessionRef  # of its last computed frame
    caution: Caution
    cause: KeyframeReason | None  # why its next frame has to be whole; None: it has not
    drafts: Drafts = field(default_factory=Drafts)
    seen: Seen | None = None
    remembered: ReuseState | None = None
    pending: P | None = None  # what a pause can still do for its last frame
    past: Past | None = None  # its older frames, where answers look at them

    def recognised(self, prepared: Prepared) -> Tensor | None:
        """The rows of a frame that shows what the last one did. Only once: a frame that fails is looked at again."""
        seen, self.seen = self.seen, None
        return None if seen is None else seen.rows_of(prepared)


class Sessions(Generic[P]):
    """At most `most` sessions, the longest idle first. Whoever goes is handed to `part`, which frees what it holds."""

    def __init__(self, drift_budget: float, part: Callable[[Session[P]], None], most: int = MOST_SESSIONS):
        self._drift_budget = drift_budget
        self._part = part
        self._most = most
        self._known: OrderedDict[str, Session[P]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def at(self, ref: SessionRef) -> Session[P]:
        """The session as the frame finds it that is computed now; an earlier one of the same id is forgotten."""
        session = self._known.get(ref.id)
        if session is None or session.ref.serial != ref.serial:
            session = self._begin(ref)
        elif session.ref.epoch != ref.epoch:
            session.cause, session.drafts, session.past = KeyframeReason.RESET, Drafts(), None
        session.ref = ref
        self._known.move_to_end(ref.id)
        return session

    def known(self, session_id: str) -> Session[P] | None:
        """The session of that id, if there is one."""
        return self._known.get(session_id)

    def forget(self, session_id: str) -> None:
        """As if it had never been here."""
        session = self._known.pop(session_id, None)
        if session is not None:
            self._part(session)

    def longest_idle(self, but: Container[str] = ()) -> Session[P] | None:
        """Of those that hold keys and values, `but` some, the one that was here longest ago."""
        holding = (session for session in self._known.values() if session.remembered is not None)
        return next((session for session in holding if session.ref.id not in but), None)

    def pending(self) -> Session[P] | None:
        """Of those for which a pause can still do something, the one that was here longest ago: it is due soonest."""
        return next((session for session in self._known.values() if session.pending is not None), None)

    @property
    def holding(self) -> int:
        """How many hold keys and values. Any thread."""
        return sum(session.remembered is not None for session in [*self._known.values()])

    @property
    def pasts(self) -> list[Past]:
        """What there is of older frames. Any thread."""
        return [past for session in [*self._known.values()] if (past := session.past) is not None]

    def _begin(self, ref: SessionRef) -> Session[P]:
        self.forget(ref.id)
        while len(self._known) >= self._most:
            self.forget(next(iter(self._known)))
        session = self._known[ref.id] = Session(ref, Caution(self._drift_budget), ref.opening)
        return session
