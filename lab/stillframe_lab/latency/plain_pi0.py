"""openpi's loop over transformers' Gemmas: a padded prefix once, then the state and the noisy actions in every step.

Knows a checkpoint's tensors and the two masks; no clock. Pictures and text come embedded. Steered norms (pi0.5)
transformers has none of. Source: Physical-Intelligence/openpi src/openpi/models_pytorch/pi0_pytorch.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, GemmaConfig, GemmaModel
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm, GemmaRotaryEmbedding

from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.pi0.flow import Flow, time_codes
from stillframe.models.pi0.folder import EMBEDDING, JUNK, PICTURES, Pi0Folder
from stillframe.models.pi0.gemma import GemmaConfig as OurConfig
from stillframe.models.pi0.sizes import Pi0Sizes

MASKED = -2.3819763e38
STATE_ROWS = 1
SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "max_position_embeddings", "rms_norm_eps"),
)


class PlainPi0(nn.Module):
    """Both Gemmas and what leads into the expert and out of it, under the names that ours have."""

    def __init__(self, sizes: Pi0Sizes, flow: Flow):
        super().__init__()
        width, self.flow = sizes.expert.hidden_size, flow
        self.decoder = nn.ModuleDict({"model": _gemma(sizes.decoder)})
        self.expert = _gemma(sizes.expert)
        self.state_proj, self.action_in_proj = (nn.Linear(sizes.action_dim, width) for _ in range(2))
        self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.action_out_proj = nn.Linear(width, sizes.action_dim)

    def prefill(self, rows: Tensor, there: Tensor) -> DynamicCache:
        """The keys and values of embedded rows [rows, width], of which those are no padding that are `there` [rows]."""
        cache = DynamicCache()
        mask = _added(there[:, None] & there, rows.dtype)
        positions = there.cumsum(0) - 1
        self.decoder["model"](
            inputs_embeds=rows[None],
            attention_mask=mask,
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
        )
        return cache

    def draw(self, cache: DynamicCache, there: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """From `noise` [horizon, action_dim] to a normalised chunk of that shape; `state` [action_dim]. All float32."""
        actions = noise
        for time in self.flow.times:
            actions = actions + self.flow.stride * self._velocity(cache, there, state, actions, time)
        return actions

    def _velocity(self, cache: DynamicCache, there: Tensor, state: Tensor, actions: Tensor, time: Tensor) -> Tensor:
        """The state's row and the actions' go through the expert; the cache is as it was afterwards."""
        rows, dtype = torch.cat((self.state_proj(state)[None], self._noisy(actions, time))), self.expert.dtype
        hidden = self.expert(
            inputs_embeds=rows[None].to(dtype),
            attention_mask=_added(_suffix_mask(there, len(rows)), dtype),
            position_ids=(there.sum() + torch.arange(len(rows), device=rows.device))[None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[0, STATE_ROWS:]
        cache.crop(-len(rows))
        out: Tensor = self.action_out_proj(hidden.float())
        return out

    def _noisy(self, actions: Tensor, time: Tensor) -> Tensor:
        """[horizon, action_dim] at a time -> rows [horizon, width]."""
        embedded = self.action_in_proj(actions)
        code = time_codes(time, embedded.shape[-1], self.flow.min_period, self.flow.max_period).to(embedded.device)
        mixed = self.action_time_mlp_in(torch.cat((embedded, code.expand_as(embedded)), dim=-1))
        out: Tensor = self.action_time_mlp_out(functional.silu(mixed))
        return out


def plain_pi0(
    folder: CheckpointFolder, sizes: Pi0Sizes, flow: Flow, *, dtype: torch.dtype, device: torch.device
) -> PlainPi0:
    """Load a checkpoint's. Raises ValueError for a pi0.5."""
    if sizes.adaptive:
        raise ValueError("the checkpoint is a pi0.5, whose norms transformers' Gemma has not; expected a pi0")
    with torch.device("meta"):
        plain = PlainPi0(sizes, flow)
    unused = (*JUNK, *PICTURES, EMBEDDING)
    Pi0Folder.of(folder).load_into(plain, dtype=dtype, device=device, unused=unused)
    plain.requires_grad_(requires_grad=False)
    gemmas: list[Any] = [plain.decoder["model"], plain.expert]
    for gemma in gemmas:
        gemma.rotary_emb = GemmaRotaryEmbedding(gemma.config).to(device)
    for module in plain.modules():
        if isinstance(module, GemmaRMSNorm):
            module.weight.sub_(1.0)  # ours have the 1 in them
    return plain.eval()


def _gemma(sizes: OurConfig) -> Any:
    """A Gemma of transformers, without an embedding of tokens."""
    given: dict[str, Any] = {name: getattr(sizes, name) for name in SIZES}
    given |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    given |= {"hidden_activation": "gelu_pytorch_tanh", "attn_implementation": "sdpa"}
    wanted = GemmaConfig(vocab_size=1, **given)
    wanted.rope_parameters = {"rope_type": "default", "rope_theta": sizes.rope_theta}
    model: Any = GemmaModel(wanted)
    model.embed_tokens = nn.Identity()
    return model


def _suffix_mask(there: Tensor, rows: int) -> Tensor:
    """[rows, keys]: all see the prefix, the state's row no action."""
    own = torch.ones(rows, rows, dtype=torch.bool, device=there.device)
    own[:STATE_ROWS, STATE_ROWS:] = False
    return torch.cat((there.expand(rows, -1), own), dim=1)


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """[rows, keys], True where a row attends -> [1, 1, rows, keys] to be added to scores."""
    return torch.where(mask, 0.0, MASKED)[None, None].to(dtype)
