"""Draws what a camera of the scene sees, and says where a point of the world lands in the picture.

Knows no robot and no noise. The OpenGL context belongs to the thread that draws first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe_client.sim.drawing import check_thread
from stillframe_client.sim.engine import BACKEND, mujoco, require_drawing
from stillframe_client.sim.laser import PalmLaser
from stillframe_client.sim.scene import CAMERAS
from stillframe_client.sim.sensors import Picture
from stillframe_client.sim.shapes import Shape
from stillframe_client.sim.state import Vector

SPOT_RADIUS_M = 0.009
SPOT_RGB = (1.0, 0.1, 0.9)
_LEFT: list[Any] = []  # renderers of other threads: to let go of one would free it here, where OpenGL does not let us
KINDS = {"box": mujoco.mjtGeom.mjGEOM_BOX, "ball": mujoco.mjtGeom.mjGEOM_SPHERE}


class Cameras:
    """All cameras of one MjData; the renderer is made when the first picture is asked for."""

    def __init__(self, model: Any, data: Any, laser: PalmLaser, image_px: int):
        self._model, self._data, self._laser, self.image_px = model, data, laser, image_px
        self._pictures = _Renderer(model, image_px)
        self._segments = _Renderer(model, image_px, segments=True)

    def picture(self, camera: str, props: Iterable[Shape] = ()) -> Picture:
        """Draw uint8 [image_px, image_px, 3] without shadows, with `props` that are there for this picture only.

        Raises gl.NoOpenGLError where nothing can draw, drawing.WrongThreadError in another thread than the first one's.
        """
        renderer = self._pictures.opened()
        renderer.update_scene(self._data, camera=CAMERAS[camera])
        spot = Shape("ball", self._laser.spot(), np.full(3, SPOT_RADIUS_M), SPOT_RGB, glow=1.0)
        for shape in (spot, *props):
            _add(renderer.scene, shape)
        return np.asarray(renderer.render(), np.uint8)

    def mask(self, camera: str, bodies: Iterable[str]) -> NDArray[np.bool_]:
        """Which pixels [image_px, image_px] of the picture show one of some bodies of the model. Raises as `picture`.

        What is drawn for one picture only hides nothing here.
        """
        renderer = self._segments.opened()
        renderer.update_scene(self._data, camera=CAMERAS[camera])
        seen = np.asarray(renderer.render())  # [image_px, image_px, 2]: number, type of object
        owners = np.isin(self._model.geom_bodyid, [self._model.body(name).id for name in bodies])
        geoms = seen[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
        return np.asarray(geoms & owners[np.where(geoms, seen[..., 0], 0)])

    def project(self, camera: str, points_m: Vector) -> NDArray[np.float64]:
        """Where points [n, 3] of the world land: [n, 2] pixels, u to the right, v down; pixel centres are at .5.

        Raises ValueError for a point behind the camera.
        """
        index = self._model.camera(CAMERAS[camera]).id
        axes = self._data.cam_xmat[index].reshape(3, 3)
        seen = (np.atleast_2d(points_m) - self._data.cam_xpos[index]) @ axes  # [n, 3]: right, up, backward
        if np.any(seen[:, 2] >= 0):
            raise ValueError(f"a point lies behind the {camera} camera; expected only points in front of it")
        focal_px = self.image_px / 2 / np.tan(np.radians(self._model.cam_fovy[index]) / 2)
        flat = seen[:, :2] / -seen[:, 2:]
        return np.asarray(self.image_px / 2 + focal_px * flat * np.array([1.0, -1.0]))

    def close(self) -> None:
        """Free the OpenGL contexts; the next picture makes a new one. Raises drawing.WrongThreadError."""
        for renderer in (self._pictures, self._segments):
            renderer.close()


class _Renderer:
    """A renderer whose OpenGL context is its first drawing thread's. `segments`: it draws whose each pixel is."""

    def __init__(self, model: Any, image_px: int, *, segments: bool = False):
        self._model, self._image_px, self._segments = model, image_px, segments
        self._renderer: Any = None
        self._owner = threading.current_thread()  # of the renderer's context, once there is one

    def opened(self) -> Any:
        """It, made where there is none."""
        if self._renderer is not None:
            check_thread(self._owner, "drawn")
            if self._owner is not threading.current_thread():  # it has ended, and its context with it
                self.close()
        if self._renderer is None:
            self._open()
        return self._renderer

    def _open(self) -> None:
        """Make the renderer: its context is this thread's from now on."""
        require_drawing()
        quality = self._model.vis.quality
        samples = quality.offsamples
        try:
            if self._segments:  # at an edge the mean of two numbers is that of a third thing
                quality.offsamples = 0
            self._renderer = mujoco.Renderer(self._model, self._image_px, self._image_px)
        except Exception as error:
            raise BACKEND.failed(error) from error
        finally:
            quality.offsamples = samples
        self._owner = threading.current_thread()
        self._free = weakref.finalize(self, _forget, self._renderer, self._owner)  # freed as a closed one is
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        if self._segments:
            self._renderer.enable_segmentation_rendering()

    def close(self) -> None:
        """Free the OpenGL context. Raises drawing.WrongThreadError."""
        if self._renderer is not None:
            check_thread(self._owner, "closed")
            self._free()
            self._renderer = None


def _forget(renderer: Any, owner: threading.Thread) -> None:
    """Free a renderer in its own thread; any other cannot, and leaves it to the end of the process."""
    if threading.current_thread() is owner:
        _free(renderer)
    else:
        _LEFT.append(renderer)


def _free(renderer: Any) -> None:
    """Close a renderer in its own context.

    MuJoCo 3.17 frees textures and meshes by their numbers in whichever context is current, and every context counts
    from 1: without the picture, which makes its own current, another scene would lose what it draws with.
    """
    renderer.render()
    renderer.close()


def _add(scene: Any, shape: Shape) -> None:
    """One more thing for one picture: drawn, never felt."""
    geom, rgba = scene.geoms[scene.ngeom], np.array([*shape.rgb, 1.0], np.float32)
    mujoco.mjv_initGeom(geom, KINDS[shape.kind], shape.half_m, shape.pos_m, np.eye(3).ravel(), rgba)
    geom.emission = shape.glow
    scene.ngeom += 1
