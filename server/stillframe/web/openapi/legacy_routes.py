"""OpenAPI descriptions of the routes for other servers' clients.

Knows no request; tests post the examples to the daemon, so they cannot go stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from stillframe.web.openapi.builders import (
    HEADERS,
    KEY_PARAMETER,
    PNG_FRAME,
    READABLE,
    SESSION_FRAME,
    SESSION_PARAMETER,
    SESSION_PROBLEMS,
    WORDS,
    Description,
    Responses,
    Schema,
    content,
    problems,
    ref,
    request_body,
    response,
)
from stillframe_client.wire import encode_array


def _legacy_body() -> Schema:
    raw = {"image": encode_array(np.zeros((8, 8, 3), np.uint8)), **WORDS, "unnorm_key": None}
    schema = {"oneOf": [ref("Frame"), ref("Encoded"), ref("OftFrame")]}
    oft = {"full_image": raw["image"], **WORDS, "state": encode_array(np.zeros(8))}
    examples = content(
        schema,
        openvla={"summary": "OpenVLA's client: json_numpy", "value": raw},
        **{
            "double-encoded": {"summary": "the same as JSON in a string", "value": {"encoded": json.dumps(raw)}},
            "openvla-oft": {"summary": "OpenVLA-OFT's client: a flat observation", "value": oft},
        },
        png=PNG_FRAME,
        session=SESSION_FRAME,
    )
    return request_body(examples, SESSION_PARAMETER, KEY_PARAMETER)


def _legacy_answers() -> Responses:
    bare = encode_array(np.zeros(7))
    examples: dict[str, Schema] = {
        "openvla": {"summary": "to raw pictures: the float64 array alone", "value": bare},
        "double-encoded": {"summary": "the same as JSON in a string", "value": json.dumps(bare)},
        "openvla-oft": {"summary": "to a flat observation: one array for each action", "value": [bare]},
        "readable": {"summary": "to JPEG or PNG: the whole chunk, and what was reused", "value": READABLE},
    }
    arrays = {"type": "array", "items": ref("Array")}
    schema = {"oneOf": [ref("Array"), ref("Actions"), arrays, {"type": "string"}]}
    return {
        200: response("An action, in the dialect of the frame.", content(schema, **examples), HEADERS),
        **problems(504, *SESSION_PROBLEMS),
    }


def _form_body() -> Schema:
    return request_body({"multipart/form-data": {"schema": ref("CogActForm")}}, SESSION_PARAMETER)


def _form_answers() -> Responses:
    numbers = {"type": "array", "items": {"type": "number"}}
    schema = {"oneOf": [numbers, {"type": "array", "items": numbers}]}
    example = {"summary": "one action", "value": [0.0] * 7}
    answer = response("The numbers of the action; a row for each of several.", content(schema, action=example), HEADERS)
    return {200: answer, **problems(504, *SESSION_PROBLEMS)}


DIALECT_SCHEMAS: Mapping[str, Schema] = MappingProxyType(
    {
        "OftFrame": {
            "type": "object",
            "required": ["full_image"],
            "properties": {
                "full_image": ref("Picture"),
                "instruction": {"type": "string", "description": "a session's later frames may leave it out"},
                "state": ref("RobotState"),
            },
        },
        "CogActForm": {
            "type": "object",
            "required": ["images", "json"],
            "properties": {
                "images": {"type": "string", "format": "binary", "description": "a JPEG or PNG file"},
                "json": {
                    "type": "object",
                    "required": ["task_description"],
                    "properties": {"task_description": {"type": "string"}, "state": ref("RobotState")},
                },
            },
        },
    }
)
LEGACY_DESCRIPTIONS: Mapping[tuple[str, str], Description] = MappingProxyType(
    {
        ("POST", "/act"): Description("policy", _legacy_answers(), extra=_legacy_body()),
        ("POST", "/api/inference"): Description("policy", _form_answers(), extra=_form_body()),
    }
)
