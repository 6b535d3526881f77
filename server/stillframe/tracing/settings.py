"""Settings of traces, each with its range.

Knows no YAML and no OpenTelemetry: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from stillframe.settings_fields import RangeChecked, setting


@dataclass(frozen=True)
class TracingSettings(RangeChecked):
    """Where traces of frames go, and of how many frames there is one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    endpoint: str | None = setting(
        None, "where traces are sent, OTLP over HTTP, such as http://tempo:4318/v1/traces; null: nowhere"
    )
    share: float = setting(
        0.01, "share of frames that are traced; of a client that says traceparent, those that it samples", low=0, high=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoint is not None and not _is_address(self.endpoint):
            raise ValueError(
                f"endpoint is {self.endpoint!r}; expected scheme, host and path, such as http://tempo:4318/v1/traces"
            )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
