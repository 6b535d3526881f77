from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stillframe_lab.libero.process import CameraPose
from stillframe_lab.libero.simulator.fast_pictures import CELLS, COARSE_FACES, PX, FastPictures, coarser, distinct, snap

FACES_ROUND = 40  # of the ball's mesh, both ways


def ball() -> tuple[list[float], list[int]]:
    """Vertices and faces of a unit sphere, of twice FACES_ROUND squared triangles."""
    rows, columns = np.meshgrid(np.linspace(0.05, np.pi - 0.05, FACES_ROUND + 1), np.arange(FACES_ROUND), indexing="ij")
    turn = columns * 2 * np.pi / FACES_ROUND
    vertices = np.stack([np.sin(rows) * np.cos(turn), np.sin(rows) * np.sin(turn), np.cos(rows)], axis=-1)
    row, column = np.meshgrid(np.arange(FACES_ROUND), np.arange(FACES_ROUND), indexing="ij")
    here, beside = row * FACES_ROUND + column, row * FACES_ROUND + (column + 1) % FACES_ROUND
    below, across = here + FACES_ROUND, beside + FACES_ROUND
    faces = np.concatenate([np.stack([here, below, beside], -1), np.stack([beside, below, across], -1)])
    return vertices.reshape(-1).tolist(), faces.reshape(-1).tolist()


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    """A red ball that is looked at, a green one that touches, a blue hull that is hidden, and a camera above."""
    vertices, faces = (" ".join(map(str, part)) for part in ball())
    mesh = f'vertex="{vertices}" face="{faces}"'
    document = f"""<mujoco><asset>
      <mesh name="seen" {mesh} scale=".3 .3 .3"/><mesh name="felt" {mesh} scale=".2 .2 .2"/></asset>
      <worldbody><light pos="0 0 5"/><camera name="top" pos="0 0 3" fovy="60"/>
      <body name="red" pos=".5 0 0"><geom type="mesh" mesh="seen" group="1" contype="0" conaffinity="0" rgba="1 0 0 1"/>
      <geom type="sphere" size=".8" group="0" rgba="0 0 1 1"/></body>
      <body pos="-.5 0 0"><geom type="mesh" mesh="felt" group="1" rgba="0 1 0 1"/></body>
      </worldbody></mujoco>"""
    return mujoco.MjModel.from_xml_string(document)


@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.just(3)), elements=st.floats(-8, 8, width=16)))
def test_vertices_become_one_of_their_cell(vertices: np.ndarray) -> None:
    """What stands for a vertex is a vertex, stands for itself, and is no farther than a cell's diagonal."""
    stands = snap(vertices)
    side = max(float(np.ptp(vertices, axis=0).max()) / CELLS, 1e-9)

    assert np.array_equal(stands[stands], stands)
    assert np.linalg.norm(vertices - vertices[stands], axis=1).max() <= side * 1.001 * np.sqrt(3)


def test_what_is_only_looked_at_has_fewer_faces(model: mujoco.MjModel) -> None:
    """What touches keeps them all, and so does the model that physics uses."""
    seen, felt = (mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_MESH, name) for name in ("seen", "felt"))
    before = model.mesh_facenum.copy(), model.mesh_face.copy()
    drawn = coarser(model)

    assert before[0][seen] > COARSE_FACES
    assert 200 < drawn.mesh_facenum[seen] < before[0][seen]
    assert drawn.mesh_facenum[felt] == before[0][felt]
    assert np.array_equal(model.mesh_facenum, before[0])
    assert np.array_equal(model.mesh_face, before[1])


def test_faces_keep_their_side(model: mujoco.MjModel) -> None:
    """Each looks outwards as before, else it is drawn black."""
    mesh = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_MESH, "seen")
    drawn = coarser(model)
    first, face = drawn.mesh_vertadr[mesh], drawn.mesh_faceadr[mesh]
    corners = drawn.mesh_face[face : face + drawn.mesh_facenum[mesh]]
    points = drawn.mesh_vert[first : first + drawn.mesh_vertnum[mesh]][corners]
    outwards = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])

    assert len({*map(tuple, np.sort(corners, axis=1))}) == len(corners)
    assert np.mean(np.sum(outwards * points.mean(axis=1), axis=1) > 0) > 0.97


def test_a_face_and_its_other_side_are_two() -> None:
    """A thin wall has both; of the same face told from another corner one goes, and so does what has become a line."""
    corners = np.array([[4, 7, 9], [4, 9, 7], [7, 9, 4], [4, 4, 7], [9, 7, 9]])

    assert distinct(corners).tolist() == [0, 1]


@pytest.mark.gl
def test_pictures_show_what_is_there_now(needs_gl: None, model: mujoco.MjModel) -> None:  # noqa: ARG001 -- for its skip
    """Where things are, rows upwards, nothing of what only touches; what is hidden meanwhile is not shown."""
    data, camera = mujoco.MjData(model), 0
    mujoco.mj_forward(model, data)
    pictures = FastPictures(model)
    try:
        picture = pictures.draw(model, data, camera).astype(int)
        model.geom_rgba[model.geom_bodyid == mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "red"), 3] = 0
        without = pictures.draw(model, data, camera).astype(int)
    finally:
        model.geom_rgba[:, 3] = 1
        pictures.close()
    red = picture[..., 0] - picture[..., 1:].max(axis=-1) > 60
    pose = CameraPose(np.array(data.cam_xpos[camera]), np.array(data.cam_xmat[camera]).reshape(3, 3), 60.0)
    u, v = pose.project(np.array([0.5, 0.0, 0.3]), PX)
    upright = red[::-1, ::-1]

    assert picture.shape == (PX, PX, 3)
    assert picture[..., 2].max() - picture[..., :2].max() < 20
    assert np.argwhere(upright).mean(axis=0) == pytest.approx([v, u], abs=2.5)
    assert without[..., 0].max() < 100


@pytest.mark.gl
def test_a_mask_is_what_a_body_covers(needs_gl: None, model: mujoco.MjModel) -> None:  # noqa: ARG001 -- for its skip
    """The pixels that are its colour in the picture, none of what is not drawn; and the next picture is as ever."""
    data, camera = mujoco.MjData(model), 0
    mujoco.mj_forward(model, data)
    red = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "red")
    pictures = FastPictures(model)
    try:
        picture = pictures.draw(model, data, camera)
        mask, both, none = (pictures.mask(model, data, camera, own) for own in ({red}, {red, red + 1}, set()))
        again = pictures.draw(model, data, camera)
    finally:
        pictures.close()
    colours = picture.astype(int)
    reddish = colours[..., 0] - colours[..., 1:].max(axis=-1) > 60

    assert (mask.dtype, mask.shape) == (np.bool_, (PX, PX))
    assert (mask ^ reddish).sum() < 0.1 * mask.sum()  # its rim is dark
    assert 1.2 * mask.sum() < both.sum() < 1.8 * mask.sum()  # the green ball is smaller
    assert not none.any()
    assert np.array_equal(picture, again)


def test_points_are_projected_as_pictures_are_turned() -> None:
    """A camera above that looks down: what is to its right is left in the picture, what is up is up."""
    above = CameraPose(np.array([0.0, 0.0, 2.0]), np.eye(3), 90.0)
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])

    assert above.project(points, 128) == pytest.approx(np.array([[64, 64], [32, 64], [64, 32], [64, 0]]))
