"""KeptPicture: what a session keeps of a camera's last picture where its towers compute only patches that changed.

Knows what it holds, its bytes, and which models can; computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.token_sparse import HasTokenSparseVision, PictureKV, TokenSparseVision
from stillframe.reuse.patch_renewal import Pixels
from stillframe.reuse.settings import ReuseSettings


@dataclass(frozen=True, eq=False)
class KeptPicture:
    """One camera's. The session's next picture may write into `kv`."""

    kv: PictureKV
    rows: Tensor  # [patches, width], as they enter the decoder
    seen: Pixels  # the picture
    reference: Pixels  # from which each patch was computed
    turn: int = 0  # pictures since the last whole pass
    exact: bool = True  # whether the rows are those of a whole pass over the picture

    @property
    def nbytes(self) -> int:
        """Of what lies on the device."""
        return self.kv.nbytes + self.rows.nbytes


def token_sparse_vision(model: PolicyModel, settings: ReuseSettings) -> TokenSparseVision | None:
    """What renews pictures in part; None: the settings want them whole. Raises ConfigError for a model that cannot."""
    if settings.adaptive.vision == "whole":
        return None
    if not isinstance(model, HasTokenSparseVision):
        raise ConfigError(
            f"reuse.adaptive.vision is 'changed', and the vision encoder of {model.info.name}, of family "
            f"{model.info.family}, cannot compute some patches of a picture; leave it out: it computes all"
        )
    return model.token_sparse_vision


def kept_bytes(model: PolicyModel, settings: ReuseSettings) -> int:
    """What a session's KeptPicture take, of all cameras."""
    sparse = token_sparse_vision(model, settings)
    if sparse is None:
        return 0
    row_bytes = model.decoder.config.hidden_size * model.dtype.itemsize
    return len(model.info.cameras) * (sparse.picture_bytes + sparse.grid**2 * row_bytes)
