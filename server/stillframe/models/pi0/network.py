"""Pi0Network: tower, projector, prefix decoder and action expert of a checkpoint, loaded and made ready to serve.

Knows tensors; no prompt and no file's names: folder.py has those under ours. What depends on time alone is made once:
the steps' codes, the time's half of the layer that mixes it with actions, every modulation of every norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.domain import WeightScheme
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.expert_probe import ExpertHook
from stillframe.models.guidance import Guidance, guided_flow, may_differentiate
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.rotary import Rotary
from stillframe.models.llama.weight_packing import pack_for_inference
from stillframe.models.pi0.expert import Expert, Modulation
from stillframe.models.pi0.flow import Flow
from stillframe.models.pi0.folder import JUNK
from stillframe.models.pi0.prefix import PrefixKV
from stillframe.models.pi0.siglip import SiglipTower
from stillframe.models.pi0.sizes import Pi0Sizes
from stillframe.models.quantised.quantise import check_scheme, quantise, quantised_names
from stillframe.reuse.kv import FrameKV

Hooks = Sequence[ExpertHook | None]  # of each robot; (): of none


@dataclass(frozen=True)
class StepTables:
    """What depends on the time step alone."""

    conditions: Tensor  # [steps, width] float32: pi0.5's condition; pi0: the times' codes
    modulations: Sequence[Sequence[Modulation]]  # [steps][two a layer, and the last norm's]
    action_weight: Tensor  # [width, action_dim] float32: an action as a row, or as pi0's row before the SiLU
    action_bias: Tensor  # [steps, width]


class Pi0Network(nn.Module):
    """The tensors of a checkpoint. `adaptive`: pi0.5, whose norms are steered by time; else pi0."""

    tables: StepTables

    def __init__(self, sizes: Pi0Sizes):
        super().__init__()
        width, expert = sizes.decoder.hidden_size, sizes.expert.hidden_size
        self.sizes = sizes
        self.vision = SiglipTower(sizes.vision)
        self.projector = nn.Linear(sizes.vision.width, width)
        self.decoder = Decoder(sizes.decoder, has_head=False)  # no token is decoded
        self.expert = Expert(sizes.expert, adaptive=sizes.adaptive)
        self.action_in_proj = nn.Linear(sizes.action_dim, expert)
        self.action_out_proj = nn.Linear(expert, sizes.action_dim)
        if sizes.adaptive:
            self.time_mlp_in, self.time_mlp_out = nn.Linear(expert, expert), nn.Linear(expert, expert)
        else:
            self.state_proj = nn.Linear(sizes.action_dim, expert)
            self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * expert, expert), nn.Linear(expert, expert)

    def patches(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] float32 -> projected patches [batch, patches, width]."""
        out: Tensor = self.projector(self.vision(pixels))
        return out

    def prepare(self, flow: Flow) -> None:
        """Make the tables for these times, free what only they needed, pack the rest. Irreversible."""
        self.tables, self.flow = self._tables(flow), flow
        self.expert.prepare()
        pack_for_inference(self)

    def draw(
        self,
        caches: Sequence[FrameKV],
        lengths: Sequence[int],
        states: Tensor | None,
        noise: Tensor,
        guidance: Guidance | None = None,
        hooks: Hooks = (),
    ) -> Tensor:
        """From `noise` [robots, horizon, action_dim] to normalised chunks of that shape, float32.

        `caches` hold each robot's prefix of so many rows; `states` [robots, action_dim] float32 are pi0's. Each robot's
        hook, if it has one, sees the last step: its actions are nearly those of the chunk.
        """
        with may_differentiate(guidance):
            *_, last = self.drawn(caches, lengths, states, noise, guidance, hooks)
        return last

    def drawn(
        self,
        caches: Sequence[FrameKV],
        lengths: Sequence[int],
        states: Tensor | None,
        noise: Tensor,
        guidance: Guidance | None = None,
        hooks: Hooks = (),
    ) -> Iterator[Tensor]:
        """The same, step by step: what each step begins with, then the chunks."""
        prefix = PrefixKV.of(caches, lengths, self.state_rows, noise.shape[1])
        yield from self.drawn_over(prefix, states, noise, guidance, hooks)

    def drawn_over(
        self,
        prefix: PrefixKV,
        states: Tensor | None,
        noise: Tensor,
        guidance: Guidance | None = None,
        hooks: Hooks = (),
    ) -> Iterator[Tensor]:
        """The same over copies of the prefixes."""
        horizon, first = noise.shape[1], self._state_rows(states)
        rotary = self._rotary(prefix.positions, prefix.alone + horizon)
        actions, times = noise, self.flow.times.tolist()
        for step in range(self.flow.steps):
            yield actions
            if step == self.flow.steps - 1:
                prefix.watch(hooks)
            velocity = partial(self.velocity, step=step, rotary=rotary, prefix=prefix, first=first)
            flowing = velocity(actions) if guidance is None else guided_flow(velocity, actions, times[step], guidance)
            actions = actions + self.flow.stride * flowing
            if first is not None:
                first, rotary = None, rotary.last(horizon)
        yield actions

    def velocity(
        self, actions: Tensor, step: int, rotary: Rotary, prefix: PrefixKV, first: Tensor | None = None
    ) -> Tensor:
        """[robots, horizon, action_dim] at a step's time -> the same: where they flow to, per unit of time.

        `first` [robots, 1, width] goes before them: pi0's row of the state. It sees the prefix and itself, and so has
        the same keys in every step: it goes with the first one.
        """
        rows = self._action_rows(actions, step)
        if first is not None:
            rows = torch.cat((first, rows), dim=1)
        hidden = self.expert(rows, rotary, prefix, self.tables.modulations[step])
        out: Tensor = self.action_out_proj(hidden[:, -actions.shape[1] :].float())
        return out

    @property
    def state_rows(self) -> int:
        """Rows that go before the actions': pi0's one of the state."""
        return 0 if self.sizes.adaptive else 1

    @property
    def dtype(self) -> torch.dtype:
        """Of the decoder's and the expert's rows."""
        return self.decoder.model.embed_tokens.weight.dtype

    def _state_rows(self, states: Tensor | None) -> Tensor | None:
        """pi0's states [robots, action_dim] -> rows [robots, 1, width]."""
        return None if states is None else self.state_proj(states)[:, None].to(self.dtype)

    def _action_rows(self, actions: Tensor, step: int) -> Tensor:
        """[robots, horizon, action_dim] -> rows [robots, horizon, width]."""
        rows = functional.linear(actions, self.tables.action_weight, self.tables.action_bias[step])
        if not self.sizes.adaptive:
            rows = self.action_time_mlp_out(functional.silu(rows))
        return rows.to(self.dtype)

    def _rotary(self, first: Tensor, rows: int) -> Rotary:
        """The angles of so many own rows of each robot, behind its prefix."""
        places = first[:, None] + torch.arange(rows, device=first.device)
        turned = self.decoder.model.rotary(places, self.dtype)
        return Rotary(turned.cos[:, None], turned.sin[:, None])

    def _tables(self, flow: Flow) -> StepTables:
        weight, bias = self.action_in_proj.weight, self.action_in_proj.bias
        codes = flow.codes(len(bias)).to(bias.device)
        if self.sizes.adaptive:
            codes = functional.silu(self.time_mlp_out(functional.silu(self.time_mlp_in(codes))))
            biases = bias.expand(flow.steps, -1)
        else:  # one product for two: actions go straight into the layer that mixes them with time
            mix, own = self.action_time_mlp_in.weight.double().chunk(2, dim=1)
            biases = (mix @ bias.double() + self.action_time_mlp_in.bias + codes.double() @ own.T).float()
            weight = (mix @ weight.double()).float()
        return StepTables(codes, self.expert.modulations(codes, self.dtype), weight, biases)


def load_network(
    folder: CheckpointFolder,
    sizes: Pi0Sizes,
    flow: Flow,
    *,
    dtype: torch.dtype,
    device: torch.device,
    weights: WeightScheme = "as-is",
) -> tuple[Pi0Network, int]:
    """Read the weights; on device meta only what describes them. Raises CheckpointError for what they lack.

    Returns the network, and how many numbers were read: what only its tables needed is free again.
    """
    with torch.device("meta"):
        network = Pi0Network(sizes)
    check_scheme(weights, network.decoder, dtype, device)
    quantised = quantised_names(network, network.decoder, weights)
    folder.load_into(network, dtype=dtype, device=device, unused=JUNK, quantised=quantised)
    network.requires_grad_(requires_grad=False)
    parameters = sum(each.numel() for each in network.parameters())
    if device.type != "meta":
        with torch.no_grad():  # not inference_mode: guidance differentiates through what is made here
            quantise(network.decoder, weights, dtype, device)
            network.prepare(flow)
    return network.eval(), parameters
