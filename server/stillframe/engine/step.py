"""The loop: compute one batch of frames, from pictures to actions.

Knows the order of the stages and times each; what a stage does is the model's, the scheduler's or the cache's.
"""

from __future__ import annotations

from collections.abc import Sequence

from stillframe.domain import CacheReport, DraftReport, Step, StepReport
from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.core import EngineCore
from stillframe.engine.device import all_finite, inference_mode, wait_for
from stillframe.engine.requests import FrameRequest
from stillframe.engine.session_state import ScheduledFrame
from stillframe.errors import Internal, RequestError
from stillframe.models.base import Decoded, PolicyModel, Prepared
from stillframe.stopwatch import Stopwatch


@inference_mode()
def step(core: EngineCore, requests: Sequence[FrameRequest]) -> list[Step | RequestError]:
    """Compute some frames, of each as little as its plan allows. No two are of one session.

    Each answer is what the frame would have got alone, or why it got none: the others' answers do not depend on it.
    """
    watch = Stopwatch(core.clock, wait_for(core.model.device))
    prepared = [_prepared(core.model, request) for request in requests]
    watch.lap("prepare")
    able = [(request, own) for request, own in zip(requests, prepared, strict=True) if isinstance(own, Prepared)]
    answers = iter(_compute(core, [request for request, _ in able], [own for _, own in able], watch) if able else ())
    return [own if isinstance(own, RequestError) else next(answers) for own in prepared]


def _compute(
    core: EngineCore, requests: Sequence[FrameRequest], prepared: Sequence[Prepared], watch: Stopwatch
) -> list[Step | RequestError]:
    """From prepared frames to actions."""
    runner, scheduler, cache = core.runner, core.scheduler, core.cache
    with cache.batch(requests) as sessions:
        rows = cache.embed_batch(runner, sessions, prepared)
        watch.lap("vision")
        frames = [
            scheduler.schedule(request, own, embedded, session)
            for request, own, embedded, session in zip(requests, prepared, rows, sessions, strict=True)
        ]
        cache.look_again(runner, frames)
        cache.open(frames)
        watch.lap("plan")
        hidden = runner.decoder.forward([frame.prompt(core.model.decoder) for frame in frames])
        finite = all_finite(hidden)
        watch.lap("prefill")
        decoded = runner.act([frame.prefilled(own) for frame, own in zip(frames, hidden, strict=True)])
        watch.lap("decode")
        results = cache.commit(frames, decoded, finite)
        watch.lap("keep")
    took_ms = [{"queue": request.queued_ms(watch.started_s), **watch.laps_ms} for request in requests]
    answers = [
        _answer(core.answers, frame, own, result, stages_ms, len(frames))
        for frame, own, result, stages_ms in zip(frames, decoded, results, took_ms, strict=True)
    ]
    if core.reporter is not None:
        core.reporter.answered(frames, answers)
    return answers


def _answer(
    answers: ChunkAnswers,
    frame: ScheduledFrame,
    decoded: Decoded,
    result: CacheReport | Internal,
    stages_ms: dict[str, float],
    batch: int,
) -> Step | RequestError:
    """One frame's action and what it took, or why there is none."""
    if isinstance(result, Internal):
        return result
    draft = DraftReport(frame.draft.mode, frame.draft.way, decoded.accepted)
    report = StepReport(stages_ms, 1 + decoded.passes, result, draft, batch, frame.history_report, frame.rtc_report)
    return Step(answers.answer(frame, decoded.chunk), report)


def _prepared(model: PolicyModel, request: FrameRequest) -> Prepared | RequestError:
    try:
        return request.prepared(model)
    except RequestError as error:
        return error
