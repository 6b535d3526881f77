from __future__ import annotations

import pytest
import torch

from stillframe_lab.train.auxiliary import (
    CUBES,
    GRID,
    KEYPOINTS,
    PATCH_PX,
    TRAITS,
    KeypointHead,
    Keypoints,
    PointerHead,
)

OUT_OF_SIGHT = [-500.0, -500.0]


def keypoints(cubes_px: list[list[float]], tool_px: list[float], finger_rad: float = 0.7) -> Keypoints:
    """One picture: red, green and blue cube first, the tool last, whatever lies between out of sight."""
    points_px = [*cubes_px, *[OUT_OF_SIGHT] * (KEYPOINTS - CUBES - 1), tool_px]
    points_m = torch.arange(3.0 * KEYPOINTS).view(1, KEYPOINTS, 3) / 100
    return Keypoints.of(points_m, torch.tensor([points_px]), torch.tensor([finger_rad]))


@pytest.mark.parametrize(
    ("pixel", "patch"),
    [((0.0, 0.0), 0), ((13.9, 13.9), 0), ((14.0, 0.0), 1), ((0.0, 14.0), 16), ((100.0, 57.0), 4 * 16 + 7)],
)
def test_a_cubes_patch_is_the_one_its_centre_lies_in(pixel: tuple[float, float], patch: int) -> None:
    """Pixels count u to the right and v down; patches in raster order."""
    spots = keypoints([list(pixel), [223.0, 223.0], [300.0, -5.0]], [112.0, 112.0])

    assert spots.patch_of_object[0, :CUBES].tolist() == [patch, GRID * GRID - 1, GRID - 1]


def test_a_patch_is_near_a_point_within_three_pixels_of_its_border() -> None:
    """In the middle of a patch a point is near that patch alone; at a corner it is near all four."""
    spots = keypoints([[7.5 * PATCH_PX, 4.5 * PATCH_PX], [7.0 * PATCH_PX, 4.0 * PATCH_PX], OUT_OF_SIGHT], [7.0, 7.0])
    near = [spots.near[0, index].nonzero().flatten().tolist() for index in (0, 1, 2, -1)]

    assert near[0] == [4 * 16 + 7]
    assert near[1] == [3 * 16 + 6, 3 * 16 + 7, 4 * 16 + 6, 4 * 16 + 7]
    assert (near[2], near[3]) == ([], [0])


def test_traits_and_offsets_are_in_their_units() -> None:
    """Traits: patches, decimetres, and the fingers' angle for the tool alone. Offsets: cube minus tool, metres."""
    spots = keypoints([[14.0, 28.0], [0.0, 0.0], [0.0, 0.0]], [7.0, 7.0])

    assert spots.traits[0, 0].tolist() == pytest.approx([1, 2, 0.2, 0])
    assert spots.traits[0, -1].tolist() == pytest.approx([0.5, 0.5, 0.3 * KEYPOINTS - 0.1, 0.7])
    assert spots.offsets_m[0, :CUBES, 0].tolist() == pytest.approx(
        [0.03 * (cube + 1 - KEYPOINTS) for cube in range(CUBES)]
    )


def test_the_keypoint_head_does_not_ask_cubes_for_fingers() -> None:
    """What a cube's finger trait says costs nothing; the tool's does."""
    head = KeypointHead(8)
    patches = torch.randn(1, GRID * GRID, 8, generator=torch.Generator().manual_seed(0))
    spots = keypoints([[7.0, 7.0], [21.0, 21.0], [35.0, 35.0]], [112.0, 112.0])
    before = head(patches, spots)
    finger = TRAITS - 1
    with torch.no_grad():
        head.traits.bias[finger:-1:TRAITS] += 5.0
    cubes = head(patches, spots)
    with torch.no_grad():
        head.traits.bias[-1] += 5.0

    assert cubes == before
    assert head(patches, spots) > before + 0.1


def test_the_pointer_head_hits_when_it_points_at_the_named_cube() -> None:
    """Text rows that match the named cube's patch row cost little and count as hits; crossed ones do not."""
    head = PointerHead(GRID * GRID)
    torch.nn.init.eye_(head.query.weight)
    torch.nn.init.eye_(head.key.weight)
    spots = keypoints([[7.0, 7.0], [21.0, 21.0], [35.0, 35.0]], [112.0, 112.0])
    patches = torch.eye(GRID * GRID)[None] * 400
    named = torch.tensor([2, 0])
    text = patches[:, spots.patch_of_object[0, named]]
    right, hits = head(text, patches, spots, named)
    wrong, misses = head(text.flip(1), patches, spots, named)

    assert (hits, misses) == (1, 0)
    assert right < wrong
