"""Plain transformers: a dense prefill with logits of all rows, then a greedy pass for each token.

Knows transformers, and a model of ours for all before the decoder: pictures, towers and prompt are shared. Actions are
not scaled to the robot's units, which is to its advantage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding as Angles

from stillframe.engine.device import wait_for
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.llama.draft import Ids
from stillframe.models.llama.weight_packing import PackedLinear, worth_packing
from stillframe.stopwatch import Clock, Stopwatch, no_wait
from stillframe_lab.evaluation.macs import Work, decoder_pass, vision_work
from stillframe_lab.latency.race import StepResult, VariantInfo
from stillframe_lab.latency.scene import Scene, SceneFrame
from stillframe_lab.latency.stock_compiled import COMPILED

STOCK, ONE_HEAD_ROW, STOCK_PACKED = "stock", "stock, one head row", "stock, our products"
NO_PADDING = "stock, no padding"
BASELINES = (STOCK, ONE_HEAD_ROW, STOCK_PACKED, COMPILED)
NewCache = Callable[[int, int], Cache]  # the prompt's rows, the action's tokens -> an empty one
DECODER = "language_model"  # what its tensors' names begin with in a checkpoint
OTHERS = ("vision_backbone.", "projector.", "language_model.lm_head.")  # the last where it is not asked for
SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps"),
)


def packed(linear: nn.Linear) -> PackedLinear | None:
    """The layer with packed weights; None if ours would not pack it."""
    return PackedLinear(linear) if worth_packing(linear.weight) else None


def pack_all(network: nn.Module) -> int:
    """Replace linear layers by packed ones, as ours does -> how many."""
    changed = 0
    for module in [*network.modules()]:
        for name, child in [*module.named_children()]:
            ours = packed(child) if isinstance(child, nn.Linear) else None
            if ours is not None:
                setattr(module, name, ours)
                changed += 1
    return changed


def stock_decoder(
    folder: CheckpointFolder, config: DecoderConfig, *, dtype: torch.dtype, device: torch.device, has_head: bool = True
) -> Any:
    """The checkpoint's decoder in transformers; rotary angles in float32, as from_pretrained has them."""
    given: dict[str, Any] = {name: getattr(config, name) for name in SIZES}
    given |= {"attn_implementation": "sdpa", "dtype": dtype, "tie_word_embeddings": False}
    wanted = LlamaConfig(**given)
    wanted.rope_parameters = {"rope_type": "default", "rope_theta": config.rope_theta}
    with torch.device("meta"):
        llama: Any = LlamaForCausalLM(wanted)
    if not has_head:
        llama.lm_head = nn.Identity()
    folder.load_into(nn.ModuleDict({DECODER: llama}), dtype=dtype, device=device, unused=OTHERS)
    llama.model.rotary_emb = Angles(wanted).to(device)
    return llama.eval().requires_grad_(requires_grad=False)


def bidirectional(llama: Any) -> Any:
    """The same decoder without a mask: the configuration has a switch for it, and each layer another one for sdpa."""
    llama.config.is_causal = False
    for layer in llama.model.layers:
        layer.self_attn.is_causal = False
    return llama


def with_packed_weights(llama: nn.Module) -> Any | None:
    """A copy with packed weights; None if ours would pack none."""
    if not any(isinstance(layer, nn.Linear) and worth_packing(layer.weight) for layer in llama.modules()):
        return None
    changed = copy.deepcopy(llama)
    pack_all(changed)
    return changed


class StockVariant:
    """Answers with plain transformers, one robot after the other."""

    def __init__(
        self,
        entry: VariantInfo,
        model: PolicyModel,
        llama: Any,
        clock: Clock,
        head_rows: int = 0,
        new_cache: NewCache | None = None,
    ):
        """`head_rows`: rows of a pass that get logits; 0: all. `new_cache`: None: of DynamicCaches, one a frame."""
        self.entry = entry
        self._model, self._llama, self._clock, self._head_rows = model, llama, clock, head_rows
        self._new_cache: NewCache = new_cache or (lambda *_: DynamicCache(config=llama.config))

    def before(self, scene: Scene, turn: int) -> None:
        """Nothing."""

    def after(self) -> None:
        """Nothing."""

    @torch.inference_mode()
    def __call__(self, shots: Sequence[SceneFrame]) -> StepResult:
        """JPEG to the action's tokens, of each robot in turn."""
        answers = [self._answer(shot) for shot in shots]
        stages_ms = {stage: sum(own[stage] for _, own in answers) for stage in answers[0][1]}
        tokens = tuple(ids for ids, _ in answers)
        return StepResult(stages_ms, len(tokens[0]), 0.0, 0.0, tokens, self._work(len(tokens[0])) * len(shots))

    def _answer(self, shot: SceneFrame) -> tuple[Ids, dict[str, float]]:
        watch = Stopwatch(self._clock, wait_for(self._model.device))
        observation = shot.of_policy(self._model.info)
        watch.lap("decode image")
        prepared = self._model.prepare(observation)
        watch.lap("prepare")
        (rows,) = self._model.embed([prepared])
        watch.lap("vision")
        self._rows = len(rows)
        tokens = len(prepared.no_motion_tokens)
        cache = self._new_cache(len(rows), tokens)
        ids = greedy(self._llama, rows, tokens, self._head_rows, partial(watch.lap, "prefill"), cache)
        watch.lap("verify")
        return ids, watch.laps_ms

    def _work(self, tokens: int) -> tuple[Work, ...]:
        """The work of one frame."""
        config = self._model.decoder.config
        size = self._model.dtype.itemsize
        layers = config.num_hidden_layers + 1
        prefill = decoder_pass(config, [self._rows] * layers, self._rows, self._head_rows or self._rows, size)
        after = [decoder_pass(config, [1] * layers, self._rows + token, 1, size) for token in range(1, tokens)]
        return (vision_work(self._model, size), prefill, *after)


def greedy(
    llama: Any,
    rows: Tensor,
    tokens: int,
    head_rows: int = 0,
    prefilled: Callable[[], None] = no_wait,
    cache: Cache | None = None,
) -> Ids:
    """The likeliest tokens after the embedded rows [rows, width], a pass each, as `generate` does without sampling.

    `cache`: an empty one; None: one that grows.
    """
    cache = DynamicCache(config=llama.config) if cache is None else cache
    mask = torch.ones(1, len(rows), dtype=torch.long, device=rows.device)
    out = llama(
        inputs_embeds=rows[None], attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=head_rows
    )
    ids = [out.logits[0, -1].argmax()]
    prefilled()
    while len(ids) < tokens:
        mask = torch.cat((mask, mask.new_ones(1, 1)), dim=1)
        out = llama(input_ids=ids[-1].view(1, 1), attention_mask=mask, past_key_values=cache, use_cache=True)
        ids.append(out.logits[0, -1].argmax())
    found: Ids = torch.stack(ids).cpu().numpy().astype(np.int64)
    return found
