"""Opens what traces are written with, if traces are configured. OpenTelemetry is imported then, and only then.

Knows settings and the name of the optional dependency.
"""

from __future__ import annotations

from stillframe.errors import ConfigError
from stillframe.tracing.frames import FrameTracer
from stillframe.tracing.settings import TracingSettings


def open_tracer(settings: TracingSettings, version: str) -> FrameTracer | None:
    """None where no endpoint is set. Raises ConfigError where OpenTelemetry is not installed."""
    if settings.endpoint is None:
        return None
    try:
        from stillframe.tracing.otel import exporting_tracer
    except ImportError as error:
        what = f"tracing.endpoint is set, and traces need OpenTelemetry ({error.name or error} is missing)"
        raise ConfigError(f"{what}; run: pip install 'stillframe[otel]', or leave tracing out") from error
    return exporting_tracer(settings, version)
