"""Where an object is taken and where it is put: the two suites' tasks as points.

Knows what the simulator says of poses and bounds; no motion. The numbers were found by trying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import radians
from typing import Protocol

import numpy as np

from stillframe.errors import ConfigError
from stillframe_lab.libero.expert.geometry import box_in_world, turn_of, yawed
from stillframe_lab.libero.pictures import Vector
from stillframe_lab.libero.process import Reading, Scene


class Job(Protocol):
    """One object that is to be put somewhere. All points are in the world, m."""

    @property
    def yaw_rad(self) -> float:
        """How far the hand is turned."""
        ...

    @property
    def hover_m(self) -> float:
        """How far above its goal the object travels."""
        ...

    @property
    def lift_z_m(self) -> float:
        """How high it is lifted before it moves sideways, at least."""
        ...

    @property
    def close_m(self) -> float:
        """How near to the grasp the hand begins to close, sideways and in height."""
        ...

    def grasp(self, reading: Reading) -> Vector:
        """Where the hand closes [3]."""
        ...

    def carried(self, reading: Reading) -> Vector:
        """The object's point [3] that is brought to the goal."""
        ...

    def goal(self, reading: Reading) -> Vector:
        """Where that point is let go [3]."""
        ...


TIP_M = 0.012  # the fingers reach so far below the hand, nearly: lower, they stand on the floor and do not close


@dataclass(frozen=True)
class BowlOnPlate:
    """A bowl, taken by its rim, where the hand's y points; the hand is not turned."""

    bowl: str
    plate: str
    rim_m: float = 0.050  # from the bowl's middle to the hand
    height_m: float = 0.026  # of the hand above the bowl's bottom
    yaw_rad: float = 0.0
    lift_z_m: float = 0.0
    hover_m: float = 0.10
    close_m: float = 0.008

    def grasp(self, reading: Reading) -> Vector:
        """Over the rim."""
        sideways: Vector = yawed(self.yaw_rad) @ np.array([0.0, self.side(reading) * self.rim_m, self.height_m])
        return self.carried(reading) + sideways

    def side(self, reading: Reading) -> float:  # noqa: ARG002 (of any table's)
        """Which side of the rim is taken: 1 along the y of the turned hand, -1 against it."""
        return 1.0

    def carried(self, reading: Reading) -> Vector:
        """The bowl's bottom."""
        return _place(reading, self.bowl)

    def goal(self, reading: Reading) -> Vector:
        """Just above the plate's middle."""
        above: Vector = _place(reading, self.plate) + np.array([0.0, 0.0, 0.005])
        return above


@dataclass(frozen=True)
class BowlFromDrawer(BowlOnPlate):
    """A bowl in an open drawer, whose walls leave room for the outer finger on one side, and often on one alone."""

    cabinet: str = ""
    rim_m: float = 0.045
    height_m: float = 0.037
    yaw_rad: float = radians(70)  # the fingers move along the drawer's width
    lift_z_m: float = 1.16
    close_m: float = 0.005
    inside_m: float = 0.08  # above the bowl's bottom: a hand that is lower stays on its side

    def side(self, reading: Reading) -> float:
        """Towards the drawer's middle, which is the cabinet's; a hand that is down already stays where it is."""
        across, bowl = yawed(self.yaw_rad)[:, 1], self.carried(reading)
        if reading.position[2] < bowl[2] + self.inside_m:
            return 1.0 if across @ (reading.position - bowl) > 0 else -1.0
        cabinet = reading.objects[self.cabinet]
        width = turn_of(cabinet[3:])[:, 0]
        off_middle_m = float(width @ (bowl - cabinet[:3])) * float(np.sign(width @ across))
        return 1.0 if off_middle_m < 0 else -1.0


@dataclass(frozen=True)
class ThingInBasket:
    """A box, bottle or tin, taken across its middle, and let go in the basket."""

    thing: str
    basket: str
    bounds: Vector  # of the thing, [2, 3]
    basket_bounds: Vector
    yaw_rad: float = 0.0
    lift_z_m: float = 0.0
    close_m: float = 0.008
    drop_m: float = 0.03  # above the basket's bottom
    deep_m: float = 0.035  # the hand below the thing's top, or `deep_share` of its height
    deep_share: float = 0.6
    rim_m: float = 0.143  # of the basket, above its bottom
    clear_m: float = 0.02  # of the thing, above the rim

    @property
    def hover_m(self) -> float:
        """Over the basket's rim."""
        return self.rim_m + self.clear_m - self.drop_m

    def grasp(self, reading: Reading) -> Vector:
        """Below the top."""
        low, high = self._box(reading)
        deep = min(self.deep_m, self.deep_share * (high[2] - low[2]))
        return np.array([*(low[:2] + high[:2]) / 2, max(high[2] - deep, low[2] + TIP_M)])

    def carried(self, reading: Reading) -> Vector:
        """The middle of its bottom."""
        low, high = self._box(reading)
        return np.array([*(low[:2] + high[:2]) / 2, low[2]])

    def goal(self, reading: Reading) -> Vector:
        """Over the middle of the basket's bottom."""
        low, high = box_in_world(reading.objects[self.basket], self.basket_bounds)
        return np.array([*(low[:2] + high[:2]) / 2, low[2] + self.drop_m])

    def _box(self, reading: Reading) -> Vector:
        return box_in_world(reading.objects[self.thing], self.bounds)


def _place(reading: Reading, name: str) -> Vector:
    """The origin [3] of an object."""
    place: Vector = reading.objects[name][:3]
    return place


def check_expert(suite: str) -> None:
    """Raise ConfigError for a suite without an expert."""
    if suite not in JOBS:
        raise ConfigError(f"--expert knows {' and '.join(JOBS)}; {suite} has none")


def job_of(suite: str, scene: Scene) -> Job:
    """The job of an open task. Raises ConfigError for a suite without an expert."""
    check_expert(suite)
    return JOBS[suite](scene)


def _bowl(scene: Scene) -> BowlOnPlate:
    """LIBERO-Spatial's: the same bowl and plate, at ten places."""
    bowl, plate = scene.interest[:2]
    if "drawer" in scene.instruction:
        return BowlFromDrawer(bowl, plate, cabinet=next(name for name in scene.bounds if "cabinet" in name))
    return BowlOnPlate(bowl, plate, height_m=0.036 if "on the ramekin" in scene.instruction else 0.026)


def _thing(scene: Scene) -> ThingInBasket:
    """LIBERO-Object's: ten things."""
    thing, basket = scene.interest[:2]
    return ThingInBasket(thing, basket, scene.bounds[thing], scene.bounds[basket])


JOBS: Mapping[str, Callable[[Scene], Job]] = {"libero_spatial": _bowl, "libero_object": _thing}
