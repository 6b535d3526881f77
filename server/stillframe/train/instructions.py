"""The six instructions of jaco-tiny, in the order in which every frame is labelled for all of them."""

from __future__ import annotations

from stillframe_client.sim import COLOURS, Goal

INSTRUCTIONS = tuple(Goal(task, colour) for task in ("reach", "pick") for colour in COLOURS)
