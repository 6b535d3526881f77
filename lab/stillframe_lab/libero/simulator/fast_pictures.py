"""Pictures in a sixth of the time: small, without anti-aliasing, of coarser meshes; the physics' model stays as it is.

Knows MuJoCo's models and drawing; no task. What they show is another domain than the benchmark's pictures are.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from typing import Any

import mujoco
import numpy as np

PX = 128
CELLS = 25  # along a mesh's longest side: all vertices in a cell become one
COARSE_FACES = 1500  # meshes of fewer are drawn as they are
TOUCHES = 0  # the group of geoms that touch; they are not drawn
MOST_GEOMS = 1000  # of a scene
OFF = 0
COLOUR_UNITS = np.array([1, 2**8, 2**16])  # of red, green and blue, where a colour is a number


class FastPictures:
    """Draws one open task. Every reset compiles the same task again, so one upload to OpenGL serves them all."""

    def __init__(self, model: Any):
        """`model`: the task's MjModel."""
        coarse = coarser(model)
        coarse.vis.quality.offsamples = OFF
        coarse.vis.global_.offwidth = coarse.vis.global_.offheight = PX
        self._opengl = mujoco.GLContext(PX, PX)
        self._opengl.make_current()
        self._context = mujoco.MjrContext(coarse, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(coarse, MOST_GEOMS)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._shown = mujoco.MjvOption()
        self._shown.geomgroup[TOUCHES] = OFF

    def draw(self, model: Any, data: Any, camera: int) -> Any:
        """What a camera sees of the task as it is now -> uint8 [128, 128, 3], rows upwards as OpenGL has them.

        `model`: the one in use, which says what is hidden.
        """
        picture, whole = np.empty((PX, PX, 3), np.uint8), mujoco.MjrRect(0, 0, PX, PX)
        self._camera.fixedcamid = camera
        self._opengl.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._shown, None, self._camera, everything, self._scene)
        mujoco.mjr_render(whole, self._scene, self._context)
        mujoco.mjr_readPixels(picture, None, whole, self._context)
        return picture

    def mask(self, model: Any, data: Any, camera: int, bodies: Collection[int]) -> Any:
        """Which pixels of the same picture show one of these bodies -> bool [128, 128], rows upwards likewise."""
        self._colour_by_number(on=True)
        try:
            colours = self.draw(model, data, camera)
        finally:
            self._colour_by_number(on=False)
        numbers = colours.astype(np.int64) @ COLOUR_UNITS  # 0: nothing; not blended, for nothing is anti-aliased
        shown = np.zeros(numbers.max() + 1, bool)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            owned = geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and model.geom_bodyid[geom.objid] in bodies
            if owned and 0 <= geom.segid < len(shown) - 1:
                shown[geom.segid + 1] = True
        return shown[numbers]

    def _colour_by_number(self, *, on: bool) -> None:
        """Draw each geom flat, in the colour that is its number plus 1; or as ever."""
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self._scene.flags[flag] = on

    def close(self) -> None:
        """Free what OpenGL holds."""
        self._context.free()
        self._opengl.free()


def coarser(model: Any) -> Any:
    """A copy of an MjModel whose meshes of many faces that are only looked at have fewer."""
    drawn = copy(model)
    for mesh in _only_looked_at(model):
        if model.mesh_facenum[mesh] > COARSE_FACES:
            _coarsen(drawn, mesh)
    return drawn


def _only_looked_at(model: Any) -> set[int]:
    """The meshes of geoms that touch nothing."""
    meshes: dict[bool, set[int]] = {True: set(), False: set()}
    for geom in range(model.ngeom):
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
            touches = bool(model.geom_contype[geom] or model.geom_conaffinity[geom])
            meshes[touches].add(int(model.geom_dataid[geom]))
    return meshes[False] - meshes[True]


def _coarsen(model: Any, mesh: int) -> None:
    """Snap a mesh's vertices to a grid, in place; faces that fall together go, the others keep normals and texture."""
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    snapped = snap(model.mesh_vert[first : first + count])
    corners = snapped[model.mesh_face[face : face + faces]]
    kept = distinct(corners)
    model.mesh_face[face : face + len(kept)] = corners[kept]
    for name in ("mesh_facenormal", "mesh_facetexcoord"):
        rows = getattr(model, name)
        rows[face : face + len(kept)] = rows[face : face + faces][kept]
    model.mesh_facenum[mesh] = len(kept)


def snap(vertices: Any, cells: int = CELLS) -> Any:
    """Vertices [n, 3] -> for each the number of the one that stands for its cell: the nearest to the cell's mean."""
    low = vertices.min(axis=0)
    side = max(float((vertices.max(axis=0) - low).max()) / cells, 1e-9)
    _, cell = np.unique(np.floor((vertices - low) / side).astype(int), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    total = np.zeros((cell.max() + 1, 3))
    np.add.at(total, cell, vertices)
    mean = total / np.bincount(cell)[:, None]
    away = np.linalg.norm(vertices - mean[cell], axis=1)
    order = np.lexsort((away, cell))  # by cell, the nearest first
    stands = order[np.unique(cell[order], return_index=True)[1]]
    return stands[cell]


def distinct(corners: Any) -> Any:
    """The numbers of faces [n, 3] that still have three corners, one of each three."""
    first, second, third = corners.T
    whole = np.flatnonzero((first != second) & (second != third) & (third != first))
    turned = (corners[whole].argmin(axis=1)[:, None] + np.arange(3)) % 3  # the smallest first; sides stay sides
    _, once = np.unique(np.take_along_axis(corners[whole], turned, axis=1), axis=0, return_index=True)
    return whole[np.sort(once)]
