"""Frames of streams are traced one by one, and the connection's own id is told as it is accepted."""

from __future__ import annotations

import numpy as np
import pytest

from stillframe_client.wire import pack

ONE, OTHER = (f"00-{trace:032x}-b7ad6b7169203331-01" for trace in (1, 2))


@pytest.fixture
def desk(new_desk, tracer):
    """A desk that traces."""
    return new_desk(tracer=tracer)


def test_a_frame_names_its_own_trace(stream, play, shot, tracer):
    """In the message, or else its connection does; each frame has its own, over the one connection."""

    async def story():
        async with stream(headers=[("traceparent", ONE), ("x-request-id", "robot-7")]) as socket:
            await socket.hear("hello")
            for said in ({}, {"traceparent": OTHER, "tracestate": "vendor=1"}, {"traceparent": 7, "tracestate": "v=1"}):
                await socket.ask("frame", session_id="arm", **said, **shot)

    play(story())
    headers = [(trace.headers.get("traceparent"), trace.headers.get("tracestate")) for trace in tracer.traces]

    assert headers == [(ONE, None), (OTHER, "vendor=1"), (ONE, None)]
    assert {trace.request_id for trace in tracer.traces} == {"robot-7"}
    assert all(trace.ended == [("answered", None)] for trace in tracer.traces)


def test_a_frames_time_begins_as_its_message_arrives(stream, play, shot, tracer):
    """Its trace is told how long ago that was; the first stage is what its reading took, none lies before."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            await socket.ask("frame", session_id="arm", **shot)

    play(story())
    (trace,) = tracer.traces

    assert trace.age_ms > 0
    assert [stage.name for stage in trace.frame.stages] == ["unpack", *trace.frame.report.stages_ms]
    assert trace.frame.stages[0].begin_s == 0.0


def test_a_frame_that_is_refused_at_once_is_traced(stream, play, shot, tracer):
    """As it is counted."""

    async def story():
        async with stream() as socket:
            await socket.hear("hello")
            return await socket.ask("frame", **shot)

    problem = play(story())["problem"]
    (trace,) = tracer.traces

    assert trace.ended == [("rejected", problem["code"])]
    assert problem["request_id"] == trace.request_id


def test_openpis_frames_are_traced(openpi, play, picture, tracer):
    """Each in the trace of its connection."""

    async def story():
        async with openpi(headers=[("traceparent", ONE)]) as socket:
            await socket.hear_data()
            socket.put(pack({"observation/image": picture, "observation/state": np.zeros(8), "prompt": "go"}))
            await socket.hear_data()

    play(story())
    (trace,) = tracer.traces

    assert (trace.route, trace.headers["traceparent"], trace.ended) == ("/", ONE, [("answered", None)])


def test_a_connection_is_told_its_id(stream, play):
    """As it is accepted: problems and the log name it."""

    async def story():
        async with stream(headers=[("x-request-id", "robot-7")]) as socket:
            return dict(socket.upgrade)

    assert play(story())[b"x-request-id"] == b"robot-7"
