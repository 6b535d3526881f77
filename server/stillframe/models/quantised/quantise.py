"""Quantises a decoder: every linear layer of its blocks, one after the other, so that memory never holds two networks.

Knows decoders and the kinds of weights; no family. Embeddings, norms and the output head stay as they are, and so does
all that lies round a decoder: towers, projectors, experts and action heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from stillframe.domain import WeightScheme
from stillframe.errors import ConfigError
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.weight_packing import FUSED, fuse
from stillframe.models.quantised.int8_linear import Int8Linear
from stillframe.models.quantised.schemes import SCHEMES, refusal
from stillframe.models.quantised.torchao_linear import TorchaoLinear


def check_scheme(scheme: WeightScheme, decoder: Decoder, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ConfigError if this decoder's layers cannot be had so on `device`. Reads no weight."""
    if device.type == "meta" or scheme == "as-is":
        return
    refused = refusal(scheme, dtype, device) or _unfit(scheme, decoder)
    if refused is not None:
        raise ConfigError(f"weights: {refused}")


def quantised_names(network: nn.Module, decoder: Decoder, scheme: WeightScheme) -> Mapping[str, float]:
    """Names in the network's state of the weights that `quantise` takes -> bytes that each number then takes."""
    if scheme == "as-is":
        return {}
    taken = {id(layer.weight) for _, layer in _linears(decoder.model.layers)}
    size = SCHEMES[scheme].bytes_per_number
    return {name: size for name, weight in network.named_parameters() if id(weight) in taken}


def quantise(decoder: Decoder, scheme: WeightScheme, dtype: torch.dtype, device: torch.device) -> None:
    """Replace every linear layer of the blocks, and fuse those that share their input. Irreversible.

    Their weights may be in the host's memory and of any dtype; what takes their place is on `device`, for rows in
    `dtype`.
    """
    decoder.weights = scheme
    if scheme == "as-is":
        return
    for module in [*decoder.model.layers.modules()]:
        for name, parts in FUSED.items():
            fuse(module, name, *parts)
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Linear):
                setattr(module, name, _quantised(child, scheme, dtype, device))


def bytes_by_scheme(parameters: int, decoder: Decoder, item: int) -> Mapping[WeightScheme, int]:
    """What so many weights, the decoder's among them, take in each kind that fits it; `item`: of one as it is."""
    layers = sum(layer.weight.numel() for _, layer in _linears(decoder.model.layers))
    taken: dict[WeightScheme, int] = {"as-is": parameters * item}
    for name, scheme in SCHEMES.items():
        if _unfit(name, decoder) is None:
            taken[name] = round((parameters - layers) * item + layers * scheme.bytes_per_number)
    return taken


def weight_bytes(*modules: nn.Module | None) -> int:
    """What the weights of modules take in memory."""
    held = (module for module in modules if module is not None)
    return sum(_bytes(tensor) for module in held for tensor in chain(module.parameters(), module.buffers()))


def _unfit(scheme: WeightScheme, decoder: Decoder) -> str | None:
    """Why layers of these sizes cannot be had so; None: they can."""
    multiple = SCHEMES[scheme].multiple
    for name, layer in _linears(decoder.model.layers):
        if layer.in_features % multiple or layer.out_features % multiple:
            sides = f"{layer.in_features} to {layer.out_features}"
            return f"{scheme} takes layers whose sides are multiples of {multiple}; {name} is of {sides}"
    return None


def _quantised(layer: nn.Linear, scheme: WeightScheme, dtype: torch.dtype, device: torch.device) -> nn.Module:
    if scheme == "int8" and device.type == "cpu":
        return Int8Linear(layer)
    return TorchaoLinear(layer.to(device, dtype), scheme)


def _bytes(tensor: Tensor) -> int:
    """Of a tensor, or of those that one of torchao's is made of."""
    parts = getattr(tensor, "__tensor_flatten__", None)
    if parts is None:
        return tensor.numel() * tensor.element_size()
    return sum(_bytes(getattr(tensor, name)) for name in parts()[0])


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, child) for name, child in module.named_modules() if isinstance(child, nn.Linear))
