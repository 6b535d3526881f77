"""The six instructions of jaco-tiny, in the order in which every frame is labelled for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from stillframe_client.sim import COLOURS


@dataclass(frozen=True)
class Instruction:
    """A task and the cube it is about."""

    task: str
    colour: str

    @property
    def text(self) -> str:
        """What the robot is told."""
        verb = "pick up" if self.task == "pick" else self.task
        return f"{verb} the {self.colour} cube"


INSTRUCTIONS = tuple(Instruction(task, colour) for task in ("reach", "pick") for colour in COLOURS)
