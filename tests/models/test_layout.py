from __future__ import annotations

from stillframe.models.layout import TokenLayout

CAMERAS = {"front": range(1, 5), "wrist": range(5, 9)}


def test_rows_are_counted_by_where_the_action_begins_and_ends() -> None:
    """The prompt is everything before the action; storage holds both."""
    layout = TokenLayout(CAMERAS, (2, 2), text=range(9, 14), action=range(14, 21))

    assert layout.prompt_rows == 14
    assert layout.total_rows == 21


def test_patch_tokens_are_all_cameras_patches_in_order() -> None:
    """Numbered through, wherever each camera's patches lie in the prompt."""
    apart = {"front": range(1, 5), "wrist": range(7, 9), "palm": range(5, 7)}
    layout = TokenLayout(apart, (2, 2), text=range(9, 14), action=range(14, 21))

    assert layout.patch_positions.tolist() == [1, 2, 3, 4, 7, 8, 5, 6]
    assert layout.cameras == [slice(0, 4), slice(4, 6), slice(6, 8)]
    for places, share in zip(apart.values(), layout.cameras, strict=True):
        assert layout.patch_positions[share].tolist() == list(places)
