"""Every family's towers can renew pictures in part: whole passes are their own encoder's, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.models.registry import load_policy
from stillframe.models.token_sparse import ChangedPicture, HasTokenSparseVision

HERE = Path(__file__).parent
FAMILIES = {"openvla": 6, "openvla-oft": 6, "cogact": 6, "pi0": 3, "pi05": 3}  # channels of what is seen
CPU = torch.device("cpu")


@pytest.fixture
def folder(family: str, golden_folder: Path, oft_folder: Path, cogact_folder: Path) -> Path:
    """The micro checkpoint of a family."""
    ours = {"openvla": golden_folder, "openvla-oft": oft_folder, "cogact": cogact_folder}
    return ours.get(family, HERE / "pi0" / f"{family}-micro")


@pytest.mark.parametrize(("family", "channels"), FAMILIES.items())
@torch.inference_mode()
def test_a_family_sees_the_same_by_parts(folder: Path, channels: int) -> None:
    """Its whole pass to the bit; all patches of another picture up to rounding."""
    model = load_policy(folder, dtype=torch.float32, device=CPU)
    assert isinstance(model, HasTokenSparseVision)
    draw = torch.Generator().manual_seed(2)
    pictures = [torch.randn(channels, *model.info.image_size, generator=draw) for _ in range(2)]
    sparse, encoded = model.token_sparse_vision, model.network.patches(torch.stack(pictures))
    rows, (_, kept) = sparse.whole(pictures)
    (renewed,) = sparse.changed([ChangedPicture(pictures[0], np.arange(sparse.grid**2), kept)])

    assert torch.equal(rows, encoded)
    assert torch.allclose(renewed, encoded[0], atol=1e-4)
