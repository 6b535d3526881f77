"""PrismaticNetwork: vision towers, projector and decoder under a checkpoint's names, loaded and made ready to serve.

Knows tensors; no prompt, and not what is made of the decoder's hidden rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stillframe.domain import WeightScheme
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.batch_invariance import is_batch_invariant
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.weight_packing import pack_for_inference
from stillframe.models.prismatic.checks import check_action_rows, unused_names
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.vision import Projector, VisionBackbone
from stillframe.models.quantised.quantise import check_scheme, quantise, quantised_names

OUTPUT_HEAD = "language_model.lm_head."  # of hidden rows, tokens: nothing where another head says the action


class PrismaticNetwork(nn.Module):
    """The tensors of a checkpoint, under its names. `has_head`: with the decoder's output head, which says tokens."""

    def __init__(self, config: PrismaticConfig, *, has_head: bool = True):
        super().__init__()
        self.config = config
        dino, siglip = config.towers
        self.vision_backbone = VisionBackbone(dino, siglip)
        self.projector = Projector(dino.embed_dim + siglip.embed_dim, config.decoder.hidden_size)
        self.language_model = Decoder(config.decoder, has_head=has_head)

    def patches(self, pixels: Tensor) -> Tensor:
        """[batch, 6, H, W] -> projected patches [batch, patches, width]."""
        out: Tensor = self.projector(self.vision_backbone(pixels))
        return out


def load_network(
    folder: CheckpointFolder,
    config: PrismaticConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    weights: WeightScheme = "as-is",
    action_tokens: bool = True,
    beside: Sequence[str] = (),
) -> PrismaticNetwork:
    """Read the weights; on device meta only what describes them. Raises CheckpointError for what they lack.

    `action_tokens`: whether the decoder's head says the action, and so needs weights for its tokens; else it is not
    read. `beside`: how names of tensors begin that are others' to read.
    """
    config.check_sizes(folder)
    with torch.device("meta"):
        network = PrismaticNetwork(config, has_head=action_tokens)
    unread = [*unused_names(config), *beside, *(() if action_tokens else (OUTPUT_HEAD,))]
    decoder = network.language_model
    check_scheme(weights, decoder, dtype, device)
    quantised = quantised_names(network, decoder, weights)
    folder.load_into(network, dtype=dtype, device=device, unused=unread, quantised=quantised)
    network.requires_grad_(requires_grad=False)
    if device.type == "meta":
        return network.eval()
    if action_tokens:
        check_action_rows(folder, decoder, config.bins)
    quantise(decoder, weights, dtype, device)
    prepare_for_inference(network)
    return network.eval()


def prepare_for_inference(network: PrismaticNetwork) -> None:
    """Pack and fuse weights for inference (irreversible), then test batch invariance."""
    decoder = network.language_model
    if decoder.has_head and decoder.weights == "as-is":  # of others' rounding no lead has been measured to exceed it
        decoder.measure_head()  # while the head's rows can be read
    pack_for_inference(network)
    decoder.batch_invariant = is_batch_invariant(decoder)
