"""pi0 and pi0.5: pictures and text as a bidirectional prefix, over which an action expert flows from noise to a chunk.

Knows openpi's and lerobot's checkpoints; no HTTP and no session. Cameras that are not there and padding are left out of
the prefix: the reference masks them, and lets them take no position. Source: Physical-Intelligence/openpi
src/openpi/models_pytorch/pi0_pytorch.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import ActionChunk, Observation, PolicyInfo, RtcInfo, WeightScheme
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared, drawn_together, picture_rows
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.components import Component, component
from stillframe.models.guidance import Guidance
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.pi0.aloha import AlohaScale, commanded
from stillframe.models.pi0.config import Pi0Config
from stillframe.models.pi0.folder import Pi0Folder
from stillframe.models.pi0.network import Pi0Network, load_network
from stillframe.models.pi0.pixels import PaddedPixels
from stillframe.models.pi0.prompt import PromptEncoder
from stillframe.models.pi0.static_chunks import StaticChunks
from stillframe.models.pi0.statistics import Scale
from stillframe.models.pi0.tokenizer import find_tokenizer, open_tokenizer
from stillframe.models.prismatic.policy import seen
from stillframe.models.quantised.quantise import weight_bytes
from stillframe.models.state import Scaling, StateReader
from stillframe.models.token_sparse import TokenSparseVision
from stillframe.reuse.kv import FrameKV

# Of half the range from q01 to q99. Of what it learnt from, two numbers in a hundred lie beyond these ends, and nothing
# clipped them: a rare turn of LIBERO's arm is at 2.1. What lies as far out as 5 is no motion that was shown.
MARGIN = 4.0
NO_TOKENS = np.empty(0, np.int64)  # an action is not decoded, so there is nothing to draft


@dataclass(frozen=True)
class Pi0:
    """A loaded checkpoint: the family behind `models.base.PolicyModel`."""

    name: str
    config: Pi0Config
    network: Pi0Network
    pixels: PaddedPixels
    prompt: PromptEncoder
    parameters: int
    reader: StateReader | None  # None: no state is read
    states: Mapping[str, Scale]  # by unnorm_key; empty where no state is read
    actions: Mapping[str, Scale]

    mask = Mask.BIDIRECTIONAL
    answer_rows = 1  # of the prefix nothing is read but keys and values
    has_expert = True

    @classmethod
    def load(
        cls, folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device, weights: WeightScheme = "as-is"
    ) -> Pi0:
        """Check the whole folder, then read it."""
        own = Pi0Folder.of(folder)
        config = Pi0Config.of(own)
        sizes, lerobot, data_sets = config.sizes, config.origin == "lerobot", config.statistics.data_sets
        prompt = PromptEncoder(open_tokenizer(find_tokenizer(own), sizes.decoder.vocab_size), config.form)
        network, parameters = load_network(own, sizes, config.flow, dtype=dtype, device=device, weights=weights)
        names = config.state_names
        states = {key: one.state.of_first(len(names)) for key, one in data_sets.items() if one.state and names}
        actions = {key: one.action.of_first(len(config.action_names)) for key, one in data_sets.items()}
        return cls(
            name=own.name,
            config=config,
            network=network,
            pixels=PaddedPixels(sizes.vision.image_px, antialias=not lerobot),
            prompt=prompt,
            parameters=parameters,
            reader=StateReader(names, config.state_units, _as_said(states, config)) if states else None,
            states=states,
            actions=actions,
        )

    @property
    def decoder(self) -> Decoder:
        """The prefix's."""
        return self.network.decoder

    @property
    def dtype(self) -> torch.dtype:
        """What the decoder's weights are stored and multiplied in."""
        return self.network.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.model.embed_tokens.weight.device

    @property
    def fixed_rows(self) -> int:
        """Every camera's patches: the expert's own rows are in no FrameKV."""
        return len(self.config.cameras) * self._patches

    @property
    def info(self) -> PolicyInfo:
        """The contract that clients read at /v1/models. Where the state is added to actions, so are its ends."""
        config = self.config
        return PolicyInfo(
            name=self.name,
            family=config.family,
            parameters=self.parameters,
            dtype=str(self.dtype).removeprefix("torch."),
            device=str(self.device),
            weights=self.decoder.weights,
            weight_bytes=weight_bytes(self.network),
            cameras=config.cameras,
            camera_slots={camera: slot for camera, slot in config.camera_slots.items() if camera != slot},
            image_size=self.pixels.size,
            action_names=config.action_names,
            gripper=config.gripper,
            chunk_horizon=config.horizon,
            norm_stats={key: self._ends(key) for key in self.actions},
            action_margin=MARGIN,
            default_unnorm_key=config.statistics.default_key,
            state=None if self.reader is None else self.reader.info,
            unknown_words=self.prompt.unknown_words,
            rtc=RtcInfo("flow", why=None),
        )

    @property
    def tokenizer_facts(self) -> Mapping[str, int]:
        """See `PromptEncoder.facts`."""
        return self.prompt.facts

    def components(self, folder: CheckpointFolder) -> tuple[Component, ...]:
        """Tower, projector, the prefix's decoder, the action expert, and what leads into it and out of it."""
        network, sizes = self.network, self.config.sizes
        vision, decoder, expert = sizes.vision, sizes.decoder, sizes.expert
        made = [
            component(folder, f"{key}.", part, name, layers=layers, width=width, heads=heads)
            for key, part, name, layers, width, heads in (
                ("vision", network.vision, "SigLIP tower", vision.depth, vision.width, vision.heads),
                ("projector", network.projector, "projector", 1, decoder.hidden_size, 0),
                ("decoder", network.decoder, "decoder", decoder.num_hidden_layers, decoder.hidden_size,
                 decoder.num_attention_heads),
                ("expert", network.expert, "action expert", expert.num_hidden_layers, expert.hidden_size,
                 expert.num_attention_heads),
            )
        ]  # fmt: skip
        beside = {name: each for name, each in network.named_children() if name.endswith(("_proj", "_in", "_out"))}
        heads = [
            component(folder, f"{name}.", each, name, layers=1, width=expert.hidden_size)
            for name, each in beside.items()
        ]
        stored = {name: one for each in heads for name, one in each.stored.items()}
        return (*made, Component("flow head", len(heads), expert.hidden_size, 0, stored))

    @property
    def token_sparse_vision(self) -> TokenSparseVision:
        """The tower, for pictures of which only some patches changed."""
        network = self.network
        return TokenSparseVision([network.vision], lambda features: network.projector(features).to(self.dtype))

    def prepare(self, observation: Observation) -> Prepared:
        """Resize, normalise and tokenise the pictures and the instruction; normalise the state where one is read."""
        unnorm_key = self.config.statistics.resolve(observation.unnorm_key)
        state = None if self.reader is None else self.reader.read(observation.state, unnorm_key)
        looks = {
            camera: self.pixels.look(observation.images[camera], observation.center_crop)
            for camera in seen(observation, self.config.cameras)
        }
        pixels = torch.stack([own for _, own in looks.values()])
        ids = self.prompt.ids(observation.instruction, state if self.config.form.with_state else None)
        return Prepared(
            views={camera: view for camera, (view, _) in looks.items()},
            pixels=pixels.pin_memory() if self.device.type == "cuda" else pixels,  # for an asynchronous copy
            ids=torch.tensor(ids),
            layout=self._layout([*looks], len(ids)),
            unnorm_key=unnorm_key,
            no_motion_tokens=NO_TOKENS,
            state=None if state is None else torch.from_numpy(state),
            padded_views=observation.center_crop is None,
            rounded_views=not self.pixels.antialias,
        )

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:
        """Of each: every camera's patches, the text -> [prompt_rows, width]."""

        def encode(pictures: list[Tensor]) -> Tensor:
            pixels = torch.stack([one.to(self.device, non_blocking=True) for one in pictures])
            return (encode_images or self.network.patches)(pixels).to(self.dtype)

        texts = [self.decoder.embed(one.ids.to(self.device, non_blocking=True)) for one in prepared]
        return [torch.cat((*own, text)) for own, text in zip(picture_rows(prepared, encode), texts, strict=True)]

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:
        """Draw a chunk over each prefix, with noise that follows from the frame's seed alone; all robots together."""
        noise = torch.stack([self.noise(one.seed) for one in prefilled]).to(self.device)
        guidance = Guidance.of([one.held and one.held.with_actions(self._due(one)) for one in prefilled], noise)
        hooks, given, drawn = [one.expert_hook for one in prefilled], self.expert_input(prefilled), None
        if runner.chunks is not None:
            drawn = runner.chunks.replay(*given, noise, plain=guidance is None and not any(hooks))
        if drawn is None:
            drawn = self.network.draw(*given, noise, guidance, hooks)
        return self.decoded(prefilled, drawn)

    def decoded(self, prefilled: Sequence[Prefilled], drawn: Tensor) -> list[Decoded]:
        """[robots, horizon, action_dim] of the network -> each robot's chunk."""
        chunks = drawn.cpu().double().numpy()
        return drawn_together([self.scaled(one.prepared, chunk) for one, chunk in zip(prefilled, chunks, strict=True)])

    def static_chunks(self, robots: int, capacity: int) -> StaticChunks:
        """Buffers in which chunks of up to so many robots are drawn, over prefixes of up to `capacity` rows."""
        return StaticChunks(self.network, robots, capacity, self.config.horizon)

    def static_chunks_bytes(self, robots: int, capacity: int) -> int:
        """What they take of a device."""
        return StaticChunks.bytes_of(self.network, robots, capacity, self.config.horizon)

    def noise(self, seed: int) -> Tensor:
        """[horizon, action_dim]: the same for a seed on every device, for it is drawn in the host's memory."""
        shape = (self.config.horizon, self.config.sizes.action_dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def _due(self, one: Prefilled) -> NDArray[np.float64]:
        """What the held chunk's actions are from this frame: where the state is added to them, less what it moved."""
        assert one.held is not None  # noqa: S101 (asked before)
        then, now, added = one.held.sampled, one.prepared.state, np.flatnonzero(self.config.relative)
        if not len(added) or then.state is None or now is None:
            return then.actions
        scale, state = self.actions[then.unnorm_key], self.states[then.unnorm_key]
        moved = state.unnormalise(now.double().numpy()) - state.unnormalise(then.state)
        actions = scale.unnormalise(then.actions[:, : len(scale)])
        actions[:, added] -= moved[added]
        return np.concatenate((scale.normalise(actions), then.actions[:, len(scale) :]), axis=1)

    def expert_input(self, prefilled: Sequence[Prefilled]) -> tuple[list[FrameKV], list[int], Tensor | None]:
        """Caches, rows of each prefix, and pi0's states [robots, action_dim] as `Pi0Network.draw` takes them."""
        states = None
        if not self.config.sizes.adaptive:
            states = torch.zeros(len(prefilled), self.config.sizes.action_dim)
            for row, one in zip(states, prefilled, strict=True):
                if one.prepared.state is not None:
                    row[: len(one.prepared.state)] = one.prepared.state.float()
            states = states.to(self.device)
        return [one.kv for one in prefilled], [one.prepared.layout.prompt_rows for one in prefilled], states

    def scaled(self, prepared: Prepared, drawn: NDArray[np.float64]) -> Decoded:
        """[horizon, action_dim] of the network -> the robot's units, the state added where it is to be."""
        scale = self.actions[prepared.unnorm_key]
        actions = scale.unnormalise(drawn[:, : len(scale)])
        normalised = scale.within(actions)
        if any(self.config.relative) and prepared.state is not None:
            state = self.states[prepared.unnorm_key].unnormalise(prepared.state.numpy())
            added = np.flatnonzero(self.config.relative)
            actions[:, added] += state[added]
        if self.config.adapted:
            actions = commanded(actions)
        return Decoded(ActionChunk(actions, prepared.unnorm_key), normalised, passes=0, sampled=drawn)

    def _ends(self, key: str) -> dict[str, list[float] | list[bool]]:
        scale, added = self.actions[key], np.flatnonzero(self.config.relative)
        low, high = scale.low.copy(), scale.high.copy()
        if len(added):
            low[added] += self.states[key].low[added]
            high[added] += self.states[key].high[added]
        if self.config.adapted:
            ends = commanded(low), commanded(high)
            low, high = np.minimum(*ends), np.maximum(*ends)
        return {"q01": low.tolist(), "q99": high.tolist(), "mask": scale.mask.tolist()}

    @property
    def _patches(self) -> int:
        """Of one camera."""
        return self.config.sizes.vision.grid**2

    def _layout(self, cameras: Sequence[str], ids: int) -> TokenLayout:
        """[patches of each camera] [text]; the chunk has no rows among them."""
        grid, each = self.config.sizes.vision.grid, self._patches
        patches = {camera: range(at * each, (at + 1) * each) for at, camera in enumerate(cameras)}
        text = range(len(cameras) * each, len(cameras) * each + ids)
        return TokenLayout(patches, (grid, grid), text, range(text.stop, text.stop), mask=self.mask)


def _as_said(states: Mapping[str, Scale], config: Pi0Config) -> Mapping[str, Scaling]:
    """The scales of a state as its robot says it."""
    return {key: AlohaScale(scale) if config.adapted else scale for key, scale in states.items()}
