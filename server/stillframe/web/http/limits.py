"""Bounds on one request, and Retry-After where they are reached.

Knows no HTTP: plain figures, checked before what they bound is allocated or awaited.
"""

from __future__ import annotations

from dataclasses import dataclass

FULL_WAIT_S = 5.0  # Retry-After where as many connections are open as may be
OVERLOADED_WAIT_S = 1.0  # Retry-After where as many bytes or decodes are under way as may be


@dataclass(frozen=True)
class Limits:
    """Bounds on one request; the defaults suit cameras of up to four megapixels."""

    max_body_bytes: int = 16 * 2**20
    body_timeout_s: float = 10.0  # from the request's head to the last byte of its body
    max_json_parts: int = 10_000  # commas and brackets: a list of pixels is refused before it becomes objects
    max_images: int = 8
    max_image_pixels: int = 4_000_000  # per picture
    min_image_side_px: int = 8
    max_image_side_px: int = 4096
    max_instruction_bytes: int = 2048  # as UTF-8
    default_max_age_ms: float = 10_000.0  # of a frame without max_age_ms
    longest_max_age_ms: float = 60_000.0
    answer_timeout_s: float = 120.0  # from the end of a frame's age limit until the wait ends
    decode_threads: int = 2
    max_decodes_waiting: int = 32
    max_intake_bytes: int = 128 * 2**20  # of all requests being read
    send_timeout_s: float = 10.0  # a WebSocket client that does not read for so long is disconnected
    max_streams: int = 256  # WebSockets at once
    max_ping_bytes: int = 4096  # of a stream's ping, which is echoed
