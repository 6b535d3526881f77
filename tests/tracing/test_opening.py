"""Traces are off, unless an operator names an endpoint and has OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stillframe.errors import ConfigError
from stillframe.tracing.opening import open_tracer
from stillframe.tracing.settings import TracingSettings


def test_without_an_endpoint_there_is_no_tracer() -> None:
    """Whatever share of the frames there should be one of."""
    assert open_tracer(TracingSettings(share=1.0), "0") is None


def test_without_an_endpoint_opentelemetry_is_not_imported() -> None:
    """A daemon without traces neither needs it nor waits for it."""
    script = (
        "import sys; from stillframe.tracing.opening import open_tracer; from stillframe.tracing.settings import *;"
        "open_tracer(TracingSettings(), '0'); print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert said.stdout == "[]\n"


def test_without_opentelemetry_an_endpoint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a frame is taken, with what to install."""
    monkeypatch.setitem(sys.modules, "stillframe.tracing.otel", None)

    with pytest.raises(ConfigError, match=r"^tracing\.endpoint is set, .* is missing\); run: pip install 'stillframe"):
        open_tracer(TracingSettings("http://127.0.0.1:4318/v1/traces"), "0")


@pytest.mark.parametrize("endpoint", ["", "tempo", "tempo:4318", "grpc://tempo:4317", "http://", "http://[", "/v1"])
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    """Scheme and host, of a protocol that traces are sent over."""
    with pytest.raises(ValueError, match=r"^endpoint is .*; expected scheme, host and path, such as http://"):
        TracingSettings(endpoint)
