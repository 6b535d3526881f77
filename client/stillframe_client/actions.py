"""Checks that a reply's actions are rows of finite numbers.

Knows numbers; no transport and no action spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stillframe_client.errors import BadReply

if TYPE_CHECKING:
    from numpy.typing import NDArray


def finite_actions(rows: Any) -> NDArray[np.float64]:
    """Return an answer's actions as float64 [horizon, action_dim]: plain numbers, none NaN or infinite.

    Raises BadReply for all else: text, truth values, objects, complex numbers, rows of different lengths.
    """
    if isinstance(rows, np.ndarray):
        if rows.dtype.kind not in "fiu":
            raise BadReply(f"The answer's actions are an array of {rows.dtype}; expected floats.")
        actions: NDArray[np.float64] = rows.astype(np.float64)
    else:
        actions = _from_lists(rows)
    if actions.ndim != 2 or not actions.size or not np.isfinite(actions).all():
        raise BadReply(f"The answer holds actions of shape {actions.shape}; expected finite (horizon, action_dim).")
    return actions


def _from_lists(rows: Any) -> NDArray[np.float64]:
    plain = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    if not plain or len({len(row) for row in rows}) > 1 or not all(is_number(part) for row in rows for part in row):
        raise BadReply("The answer's 'actions' are not rows of numbers of one length.")
    try:
        return np.array(rows, np.float64)
    except (OverflowError, ValueError) as error:
        raise BadReply("The answer's 'actions' hold a number that is too large.") from error


def is_number(value: Any) -> bool:
    """Whether `value` is a plain number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
