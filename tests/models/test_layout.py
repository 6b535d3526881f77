from __future__ import annotations

from stillframe.models.layout import TokenLayout


def test_rows_are_counted_by_where_the_action_begins_and_ends() -> None:
    """The prompt is everything before the action; storage holds both."""
    cameras = {"front": range(1, 5), "wrist": range(5, 9)}
    layout = TokenLayout(cameras, (2, 2), text=range(9, 14), action=range(14, 21))

    assert layout.prompt_rows == 14
    assert layout.total_rows == 21
