"""openpi's loop as a variant: every slot of a camera is encoded, filled or not, and the text is padded to its longest.

Knows a model of ours for all before and behind the two Gemmas: towers, prompt, state and statistics are shared. Not
padded, it is the same loop over what is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stillframe.engine.device import wait_for
from stillframe.models.base import Prepared
from stillframe.models.pi0.model import Pi0
from stillframe.models.pi0.platforms import SLOTS
from stillframe.stopwatch import Clock, Stopwatch
from stillframe_lab.evaluation.macs import Work, decoder_pass, flow_work, siglip_work
from stillframe_lab.latency.plain_pi0 import STATE_ROWS, PlainPi0
from stillframe_lab.latency.race import StepResult, VariantInfo
from stillframe_lab.latency.scene import Scene, SceneFrame
from stillframe_lab.latency.stock_chunk import Answer, one_after_the_other

BLACK = -1.0


class StockFlowVariant:
    """Answers with openpi's loop over transformers' Gemmas, one robot after the other."""

    def __init__(self, entry: VariantInfo, model: Pi0, plain: PlainPi0, clock: Clock, *, padded: bool = True):
        """`plain`: of the same checkpoint as `model`."""
        self.entry = entry
        self._model, self._plain, self._clock, self._padded = model, plain, clock, padded
        self._seed = 0

    def before(self, scene: Scene, turn: int) -> None:  # noqa: ARG002 (the protocol's signature)
        """Every turn has noise of its own."""
        self._seed = turn

    def after(self) -> None:
        """Nothing."""

    @torch.inference_mode()
    def __call__(self, shots: Sequence[SceneFrame]) -> StepResult:
        """JPEGs and state to a chunk of actions, of each robot in turn."""
        answers = [self._answer(shot) for shot in shots]
        return one_after_the_other(answers, self._work())

    def _answer(self, shot: SceneFrame) -> Answer:
        """[horizon, action_dim] in the robot's units, and what each stage took."""
        model, watch = self._model, Stopwatch(self._clock, wait_for(self._model.device))
        observation = shot.of_policy(model.info)
        watch.lap("decode image")
        prepared = model.prepare(observation)
        watch.lap("prepare")
        rows, there = self._embedded(prepared)
        watch.lap("vision")
        cache = self._plain.prefill(rows, there)
        watch.lap("prefill")
        state, noise = self._state(prepared), model.noise(self._seed).to(model.device)
        drawn = self._plain.draw(cache, there, state, noise).cpu().double().numpy()
        chunk = model.scaled(prepared, drawn).chunk.actions
        watch.lap("verify")
        return chunk, watch.laps_ms

    def _embedded(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Rows of every slot's patches and of the text [rows, width]; which of them are no padding [rows]."""
        model, slots = self._model, self._model.config.camera_slots
        filled = {slots[camera]: own for camera, own in zip(prepared.views, prepared.pixels, strict=True)}
        blank = torch.full_like(prepared.pixels[0], BLACK)
        pictures = [filled.get(slot, blank)[None].to(model.device) for slot in self._slots]
        patches = [model.network.patches(picture)[0].to(model.dtype) for picture in pictures]
        ids = functional.pad(prepared.ids, (0, self._text_rows(prepared) - len(prepared.ids)))
        rows = torch.cat((*patches, model.decoder.embed(ids.to(model.device))))
        shown = [torch.full((len(own),), slot in filled) for slot, own in zip(self._slots, patches, strict=True)]
        there = torch.cat((*shown, torch.arange(len(ids)) < len(prepared.ids)))
        self._rows = len(rows)
        return rows, there.to(model.device)

    def _state(self, prepared: Prepared) -> Tensor:
        """[action_dim] float32, zeros behind the robot's numbers."""
        state = torch.zeros(self._model.config.sizes.action_dim)
        if prepared.state is not None:
            state[: len(prepared.state)] = prepared.state.float()
        return state.to(self._model.device)

    @property
    def _slots(self) -> tuple[str, ...]:
        """Those that are encoded, in the order of their patches."""
        filled = self._model.config.camera_slots.values()
        return SLOTS if self._padded and {*filled} <= {*SLOTS} else (*filled,)

    def _text_rows(self, prepared: Prepared) -> int:
        return self._model.config.form.max_tokens if self._padded else len(prepared.ids)

    def _work(self) -> tuple[Work, ...]:
        """The work of one frame: every row goes through every layer, the state's in every step."""
        config, size = self._model.config, self._model.dtype.itemsize
        layers = config.sizes.decoder.num_hidden_layers
        prefix = decoder_pass(config.sizes.decoder, [self._rows] * (layers + 1), self._rows, 0, size)
        rows = STATE_ROWS + config.horizon
        steps = [flow_work(config.sizes, self._rows + rows, rows, size)] * config.flow.steps
        return (siglip_work(config.sizes, len(self._slots), size), prefix, *steps)
