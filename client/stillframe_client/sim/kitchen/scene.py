"""Builds the kitchen: arm, table and cameras as ever, and what one task needs, made of primitives.

Knows no control and no task's aim. Box and pan stay where they are put; all else is free to be moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.kitchen.state import (
    BAR_ABOVE_POT_M,
    BAR_HALF_M,
    BOX,
    BOX_HEIGHT_M,
    BOX_INNER_M,
    BOX_WALL_M,
    CUBE,
    FLOOR_HALF_M,
    LID_HALF_M,
    LID_RADIUS_M,
    PAN,
    PAN_HEIGHT_M,
    PAN_RADIUS_M,
    PAN_RIM_M,
    POT,
    POT_HALF_M,
    POT_RADIUS_M,
    SAUSAGE,
    SAUSAGE_HALF_M,
    SAUSAGE_RADIUS_M,
    SPONGE,
    SPONGE_HALF_M,
    STEM_HALF_M,
    STEM_RADIUS_M,
)
from stillframe_client.sim.scene import CUBE_RGB, arm_at_table
from stillframe_client.sim.shapes import Rgb
from stillframe_client.sim.state import CUBE_HALF_M

FIXED = (BOX, PAN)
RIM_PARTS = 16
STEEL_RGB, LID_RGB, BAR_RGB = (0.62, 0.66, 0.72), (0.50, 0.54, 0.62), (0.85, 0.25, 0.10)
BOX_RGB, BOX_FLOOR_RGB = (0.10, 0.35, 0.75), (0.20, 0.50, 0.88)
PAN_RGB, PAN_FLOOR_RGB = (0.12, 0.12, 0.14), (0.20, 0.20, 0.23)
SAUSAGE_RGB, SPONGE_RGB = (0.72, 0.20, 0.14), (0.20, 0.72, 0.42)
GRIP = (1.2, 0.01, 0.001)  # friction: sliding, turning, rolling
PAN_HANDLE_M, PAN_HANDLE_HALF_M = 0.055, (0.055, 0.010, 0.006)


def build(jaco: Path, things: Sequence[str]) -> Any:
    """Compile the MjModel from the Jaco's folder, with these things on the table."""
    spec = arm_at_table(jaco)
    for thing in things:
        body = spec.worldbody.add_body(name=thing, mocap=thing in FIXED)
        if thing not in FIXED:
            body.add_freejoint(name=thing)
        _PARTS[thing](body)
    return spec.compile()


def _pot(body: Any) -> None:
    lid_m = POT_HALF_M + LID_HALF_M
    stem_m = lid_m + LID_HALF_M + STEM_HALF_M
    _cylinder(body, "vessel", (POT_RADIUS_M, POT_HALF_M), 0.0, STEEL_RGB, 0.12)
    _cylinder(body, "lid", (LID_RADIUS_M, LID_HALF_M), lid_m, LID_RGB, 0.02)
    _cylinder(body, "stem", (STEM_RADIUS_M, STEM_HALF_M), stem_m, LID_RGB, 0.005)
    _box(body, "bar", BAR_HALF_M, (0, 0, BAR_ABOVE_POT_M), BAR_RGB, 0.01)


def _cube(body: Any) -> None:
    _box(body, "cube", (CUBE_HALF_M,) * 3, (0, 0, 0), CUBE_RGB["red"], 0.06)


def _open_box(body: Any) -> None:
    out_m, half_m = BOX_INNER_M + BOX_WALL_M, BOX_HEIGHT_M / 2
    _box(body, "floor", (BOX_INNER_M, BOX_INNER_M, FLOOR_HALF_M), (0, 0, FLOOR_HALF_M), BOX_FLOOR_RGB)
    for name, sign in (("front", 1), ("back", -1)):
        _box(body, name, (BOX_WALL_M, out_m + BOX_WALL_M, half_m), (sign * out_m, 0, half_m), BOX_RGB)
    for name, sign in (("right", 1), ("left", -1)):
        _box(body, name, (BOX_INNER_M, BOX_WALL_M, half_m), (0, sign * out_m, half_m), BOX_RGB)


def _sausage(body: Any) -> None:
    body.add_geom(
        name=f"{body.name}_skin", type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=(SAUSAGE_RADIUS_M, SAUSAGE_HALF_M, 0),
        quat=(math.sqrt(0.5), 0, math.sqrt(0.5), 0), mass=0.06, condim=6, friction=(1.2, 0.01, 0.002),
        rgba=(*SAUSAGE_RGB, 1),
    )  # fmt: skip


def _pan(body: Any) -> None:
    _cylinder(body, "floor", (PAN_RADIUS_M, FLOOR_HALF_M), FLOOR_HALF_M, PAN_FLOOR_RGB)
    out_m, half_m = PAN_RADIUS_M + PAN_RIM_M, PAN_HEIGHT_M / 2
    along_m = out_m * math.tan(math.pi / RIM_PARTS) + PAN_RIM_M / 2
    for part in range(RIM_PARTS):
        angle = 2 * math.pi * part / RIM_PARTS
        at_m = (out_m * math.cos(angle), out_m * math.sin(angle), half_m)
        turn = (math.cos(angle / 2), 0, 0, math.sin(angle / 2))
        _box(body, f"rim_{part}", (PAN_RIM_M, along_m, half_m), at_m, PAN_RGB, quat=turn)
    handle_m = (out_m + PAN_HANDLE_M, 0, PAN_HEIGHT_M - PAN_HANDLE_HALF_M[2])
    _box(body, "handle", PAN_HANDLE_HALF_M, handle_m, PAN_RGB)


def _sponge(body: Any) -> None:
    _box(body, "sponge", SPONGE_HALF_M, (0, 0, 0), SPONGE_RGB, 0.03)


def _box(
    body: Any, part: str, half_m: Sequence[float], at_m: Sequence[float], rgb: Rgb, mass_kg: float = 0.0,
    quat: Sequence[float] = (1, 0, 0, 0),
) -> None:  # fmt: skip
    body.add_geom(
        name=f"{body.name}_{part}", type=mujoco.mjtGeom.mjGEOM_BOX, size=half_m, pos=at_m, quat=quat, mass=mass_kg,
        condim=4, friction=GRIP, rgba=(*rgb, 1),
    )  # fmt: skip


def _cylinder(body: Any, part: str, size_m: Sequence[float], up_m: float, rgb: Rgb, mass_kg: float = 0.0) -> None:
    body.add_geom(
        name=f"{body.name}_{part}", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(*size_m, 0), pos=(0, 0, up_m),
        mass=mass_kg, condim=4, friction=GRIP, rgba=(*rgb, 1),
    )  # fmt: skip


_PARTS: Mapping[str, Callable[[Any], None]] = {
    POT: _pot,
    CUBE: _cube,
    BOX: _open_box,
    SAUSAGE: _sausage,
    PAN: _pan,
    SPONGE: _sponge,
}
