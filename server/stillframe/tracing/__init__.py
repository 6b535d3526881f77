"""One trace a frame, stage by stage, for those who look at single frames. Off unless it is configured."""

from stillframe.tracing.frames import AnsweredFrame, FrameTrace, FrameTracer, Headers
from stillframe.tracing.timeline import timeline

__all__ = ["AnsweredFrame", "FrameTrace", "FrameTracer", "Headers", "timeline"]
