"""How the stain looks: each cell that has not been wiped is a flat dark patch on the table.

Knows metres and colours; draws nothing and touches nothing.
"""

from __future__ import annotations

import numpy as np

from stillframe_client.sim.kitchen.state import CELL_HALF_M, KitchenState
from stillframe_client.sim.shapes import Rgb, Shape

STAIN_RGB: Rgb = (0.30, 0.12, 0.28)


def stain_shapes(state: KitchenState) -> list[Shape]:
    """What is left of it."""
    left = [cell for cell, wiped in zip(state.stain, state.wiped, strict=True) if not wiped]
    return [Shape("box", cell, np.array(CELL_HALF_M), STAIN_RGB) for cell in left]
