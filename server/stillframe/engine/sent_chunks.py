"""SentChunks: a session's last chunks as they were drawn, out of which a frame's own is held to one.

Knows steps and the frames' seqs; no model and no clock: the client says how many steps went by.
"""

from __future__ import annotations

from collections import OrderedDict

from stillframe.domain import RtcReport, RtcRequest
from stillframe.models.held_chunk import GuidanceRule, HeldChunk, SampledChunk

MOST_CHUNKS = 4  # an answer may get lost: then the robot still plays the one before


class SentChunks:
    """Of one session and epoch."""

    def __init__(self) -> None:
        self._by_seq: OrderedDict[int, SampledChunk] = OrderedDict()

    def keep(self, seq: int, chunk: SampledChunk) -> None:
        """Of an answered frame; the oldest goes beyond MOST_CHUNKS."""
        self._by_seq[seq] = chunk
        self._by_seq.move_to_end(seq)
        while len(self._by_seq) > MOST_CHUNKS:
            self._by_seq.popitem(last=False)

    def hold(self, asked: RtcRequest, unnorm_key: str, rule: GuidanceRule) -> tuple[HeldChunk | None, RtcReport]:
        """What a frame's chunk is held to, and what is said of it; None, and why: it is computed freely."""
        if not self._by_seq:
            return None, RtcReport(why="no-chunk")
        seq = next(reversed(self._by_seq)) if asked.chunk_seq is None else asked.chunk_seq
        chunk = self._by_seq.get(seq)
        if chunk is None:
            return None, RtcReport(why="unknown-chunk")
        if chunk.unnorm_key != unnorm_key:
            return None, RtcReport(why="other-statistics")
        left = max(len(chunk.actions) - asked.executed_steps, 0)
        frozen = min(asked.delay_steps, left)
        guided = max(min(left if asked.horizon is None else asked.horizon, left) - frozen, 0)
        if not frozen + guided:
            return None, RtcReport(why="nothing-asked" if left else "played-out")
        return HeldChunk(chunk, asked.executed_steps, frozen, guided, rule), RtcReport(frozen, guided, seq)
