"""VisionStage: the rows of frames' pictures: computed whole, taken over from the last frame, or renewed in part.

Knows sessions and what each has seen last; plans nothing of the decoder's. For the engine's thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from torch import Tensor

from stillframe.engine.kept_picture import KeptPicture, token_sparse_vision
from stillframe.engine.session_state import ScheduledFrame, SessionState
from stillframe.models.base import PolicyModel, Prepared
from stillframe.models.runner import ModelRunner
from stillframe.models.token_sparse import ChangedPicture
from stillframe.reuse.patch_renewal import PatchRenewal, Pixels, Renewal, pixels_of
from stillframe.reuse.settings import ReuseSettings
from stillframe.reuse.similarity import PatchTokens


@dataclass(frozen=True, eq=False)
class Look:
    """One camera's picture that is to be looked at."""

    pixels: Tensor  # [channels, H, W]
    seen: Pixels
    is_sharp: bool  # whether other pixels make another view
    begun: tuple[KeptPicture, Renewal] | None = None  # what is kept of the last, and computed of this; None: all

    def shows(self, kept: KeptPicture) -> bool:
        """Whether a whole pass would give what is kept."""
        return kept.exact and self.is_sharp and np.array_equal(self.seen, kept.seen)


class VisionStage:
    """One model's vision encoder, and what mode adaptive may leave out of it (reuse.adaptive.vision)."""

    def __init__(self, model: PolicyModel, settings: ReuseSettings):
        """Raises ConfigError for a model that cannot renew a picture in part."""
        self._default_mode = settings.mode
        self._dense_every = settings.adaptive.keyframe_every
        self._sparse = token_sparse_vision(model, settings)
        if self._sparse is not None:
            self._motion = settings.adaptive.vision_motion
            self._rule = PatchRenewal(self._sparse.grid, settings.adaptive.vision_difference, model.device)

    def embed(
        self, runner: ModelRunner, sessions: Sequence[SessionState | None], prepared: Sequence[Prepared]
    ) -> list[Tensor]:
        """Each prompt's rows [prompt_rows, width]. A picture equal to its session's last skips the vision towers.

        What is to be kept of pictures that may be renewed in part is their session's `looked`.
        """
        looks = [self._looks(session, own) for session, own in zip(sessions, prepared, strict=True)]
        kept = iter(self._kept([look for own in looks for look in own]))
        rows: list[Tensor | Prepared] = []
        for session, own, pictures in zip(sessions, prepared, looks, strict=True):
            if session is None:
                rows.append(own)
                continue
            session.looked = dict(zip(own.views, islice(kept, len(pictures)), strict=False))
            rows.append(_with_rows(own, session.looked) if pictures else session.take_vision_rows(own))
        unknown = [own for own in rows if isinstance(own, Prepared)]
        computed = iter(runner.embed(unknown) if unknown else ())
        return [next(computed) if isinstance(own, Prepared) else own for own in rows]

    def look_whole(self, runner: ModelRunner, frames: Sequence[ScheduledFrame]) -> None:
        """Compute pictures whole that were renewed in part, and give their frames the rows."""
        partial = [frame for frame in frames if not all(picture.exact for picture in frame.looked.values())]
        if not partial:
            return
        looks = [
            Look(pixels, picture.seen, is_sharp=not frame.prepared.rounded_views)
            for frame in partial
            for pixels, picture in zip(frame.prepared.pixels, frame.looked.values(), strict=True)
            if not picture.exact
        ]
        whole = iter(self._whole(looks))
        for frame in partial:
            frame.looked = {name: picture if picture.exact else next(whole) for name, picture in frame.looked.items()}
            (frame.rows,) = runner.embed([_with_rows(frame.prepared, frame.looked)])
            span = frame.prepared.layout.patch_positions
            frame.tokens = PatchTokens(frame.rows[span.start : span.stop], frame.tokens.pixels)

    def _looks(self, session: SessionState | None, prepared: Prepared) -> list[Look]:
        """How each of a frame's pictures is looked at; none: as ever. Takes what the session keeps of the last."""
        if session is None or self._sparse is None or (session.ref.mode or self._default_mode) != "adaptive":
            return []
        last = session.take_kept()
        dense = session.reuse is None or session.cause or session.reuse.since_dense + 1 >= self._dense_every
        looks = []
        for pixels, (name, view) in zip(prepared.pixels, prepared.views.items(), strict=True):
            look = Look(pixels, pixels_of(view, self._sparse.grid), is_sharp=not prepared.rounded_views)
            kept = last.get(name)
            if kept is not None and (not dense or look.shows(kept)):  # else the frame is a keyframe
                renewal = self._rule.choose(look.seen, kept.reference, kept.turn)
                look = look if renewal is None else replace(look, begun=(kept, renewal))
            looks.append(look)
        return looks

    def _kept(self, looks: Sequence[Look]) -> list[KeptPicture]:
        """What there is to keep of each picture, its rows too: all whole ones in a pass, all others in another."""
        renewed = iter(self._renewed([(look, *look.begun) for look in looks if look.begun is not None]))
        made = [None if look.begun is None else next(renewed) for look in looks]
        whole = iter(self._whole([look for look, own in zip(looks, made, strict=True) if own is None]))
        return [next(whole) if own is None else own for own in made]

    def _whole(self, looks: Sequence[Look]) -> list[KeptPicture]:
        if not looks or self._sparse is None:
            return []
        rows, kv = self._sparse.whole([look.pixels for look in looks])
        return [
            KeptPicture(own_kv, own, look.seen, look.seen) for own_kv, own, look in zip(kv, rows, looks, strict=True)
        ]

    def _renewed(self, looks: Sequence[tuple[Look, KeptPicture, Renewal]]) -> list[KeptPicture | None]:
        """In one pass over the patches that are computed of all pictures. None: that shows that all of them moved."""
        moved = [ChangedPicture(look.pixels, renewal.at, kept.kv) for look, kept, renewal in looks if len(renewal.at)]
        computed = iter(self._sparse.changed(moved) if moved and self._sparse is not None else ())
        return [
            self._after(look, kept, renewal, next(computed))
            if len(renewal.at)
            else replace(kept, seen=look.seen, exact=look.shows(kept))
            for look, kept, renewal in looks
        ]

    def _after(self, look: Look, kept: KeptPicture, renewal: Renewal, computed: Tensor) -> KeptPicture | None:
        """What there is to keep of a picture, some of whose patches were computed: their rows [n, width].

        None where those of the sample moved too far to tell how far the others did.
        """
        if self._rule.motion(kept.rows, computed, renewal) > self._motion:
            return None
        reference = kept.reference.copy()
        reference[renewal.at] = look.seen[renewal.at]
        rows = self._rule.renewed(kept.rows, computed, renewal)
        return KeptPicture(kept.kv, rows, look.seen, reference, kept.turn + 1, exact=False)


def _with_rows(prepared: Prepared, looked: Mapping[str, KeptPicture]) -> Prepared:
    return replace(prepared, known={name: picture.rows for name, picture in looked.items()})
