"""What of a configuration is shown to those that watch."""

from __future__ import annotations

import json
from typing import Any

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.daemon.web_settings import settings_in_force

SECRET_KEYS = ("tokens", "tls_", "allowed_", "record", "checkpoint", "host", "port", "listeners")


def shown(**changes: Any) -> dict[str, Any]:
    """The settings in force of a configuration."""
    return settings_in_force(load_config(None, {"checkpoint": "/home/me/secret-place", **changes}))


def test_what_shapes_answers_is_shown() -> None:
    """Reuse, decoding, batching, history and sessions, each setting under its own name, as configured."""
    settings = shown(reuse={"mode": "adaptive", "drift_budget": 0.5}, dtype="float32")

    assert settings["reuse"]["mode"] == "adaptive"
    assert settings["reuse"]["drift_budget"] == 0.5
    assert settings["dtype"] == "float32"
    assert {"decoding", "batching", "history", "graphs", "sessions", "live"} <= settings.keys()
    assert settings.keys() <= DaemonConfig.model_fields.keys()


def test_no_secret_and_no_place_is_shown() -> None:
    """Tokens, certificates, folders and addresses are the operator's, and all that is shown can be written as JSON."""
    token = {"name": "front", "sha256": "ab" * 32, "scopes": ["act"]}
    settings = shown(tokens=[token], record="/home/me/episodes", allowed_hosts=["robot.lab"])
    text = json.dumps(settings)

    assert not [word for word in ("secret-place", "abab", "episodes", "robot.lab", "front") if word in text]
    assert not [key for key in settings if key.startswith(SECRET_KEYS)]
