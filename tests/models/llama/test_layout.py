from __future__ import annotations

from dataclasses import replace

import pytest

from stillframe.models.llama.layout import Mask, TokenLayout

CAMERAS = {"front": range(1, 5), "wrist": range(5, 9)}


def test_rows_are_counted_by_where_the_action_begins_and_ends() -> None:
    """The prompt is everything before the action; storage holds both."""
    layout = TokenLayout(CAMERAS, (2, 2), text=range(9, 14), action=range(14, 21))

    assert layout.prompt_rows == 14
    assert layout.total_rows == 21
    assert replace(layout, text=range(9, 12)).prompt_rows == 14  # a family may have rows behind the text


def test_patch_tokens_are_all_cameras_patches_in_order() -> None:
    """Numbered through from the first camera's first patch, wherever that lies in the prompt."""
    places = {"front": range(3, 7), "wrist": range(7, 9), "palm": range(9, 11)}
    layout = TokenLayout(places, (2, 2), text=range(11, 14), action=range(14, 21))

    assert [*layout.patch_positions] == [*range(3, 11)]
    assert layout.cameras == [slice(0, 4), slice(4, 6), slice(6, 8)]
    for camera, share in zip(places.values(), layout.cameras, strict=True):
        assert layout.patch_positions[share] == camera


def test_a_layout_without_pictures_has_no_patch_tokens() -> None:
    """A text alone is a prompt, too."""
    layout = TokenLayout({}, (0, 0), text=range(1, 4), action=range(4, 11))

    assert (len(layout.patch_positions), layout.cameras) == (0, [])


@pytest.mark.parametrize("wrist", [range(6, 10), range(4, 8)])
def test_patches_that_do_not_adjoin_are_refused(wrist: range) -> None:
    """A gap or an overlap would number tokens wrongly."""
    with pytest.raises(ValueError, match="expected them to adjoin"):
        TokenLayout({"front": range(1, 5), "wrist": wrist}, (2, 2), text=range(10, 14), action=range(14, 21))


def test_where_all_rows_attend_to_all_the_action_is_part_of_the_prompt() -> None:
    """Its rows, and what ends it, go through the prefill; each is said by the row before it, and they look."""
    causal = TokenLayout(CAMERAS, (2, 2), text=range(10, 14), action=range(14, 20), state=range(9, 10))
    whole = replace(causal, tail=range(20, 21), mask=Mask.BIDIRECTIONAL)

    assert (causal.prompt_rows, causal.total_rows, causal.answer_rows, causal.looking) == (14, 20, 1, range(10, 14))
    assert (whole.prompt_rows, whole.total_rows, whole.answer_rows, whole.looking) == (21, 21, 8, range(10, 20))
