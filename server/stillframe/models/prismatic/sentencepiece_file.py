"""A sentencepiece model file (tokenizer.model) as what it describes: pieces, and how text is split into them.

Knows the format, a protocol buffer; builds no tokenizer. Source: google/sentencepiece, src/sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MOST_PIECES = 1_000_000
LONGEST_PIECE = 256  # characters
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
LONGEST_VARINT = 10  # bytes
MODEL = {"pieces": 1, "trainer": 2, "normalizer": 3}
PIECE = {"text": 1, "score": 2, "kind": 3}
TRAINER = {"algorithm": 3, "suffix": 24, "byte_fallback": 35}
NORMALIZER = {"charsmap": 2, "prefix": 3, "strips": 4, "escapes": 5}

Value = int | float | bytes


class Kind(IntEnum):
    """What a piece is."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Algorithm(IntEnum):
    """How text is split."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    """One piece; its id is its place in the file."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True)
class SentencePieceModel:
    """The whole file. Defaults are those of the format."""

    pieces: tuple[Piece, ...]
    algorithm: Algorithm
    byte_fallback: bool  # what no piece holds is spelt in bytes
    whitespace_suffix: bool
    charsmap: bool  # text is rewritten before it is split
    dummy_prefix: bool  # a blank is put before the text
    strips_whitespace: bool  # blanks in a row become one, and those at the ends none
    escapes_whitespace: bool  # a blank is written ▁


def parse_model(data: bytes) -> SentencePieceModel:
    """Raises ValueError for what is no such file."""
    fields = list(_fields(data))
    pieces = tuple(_piece(_bytes(value)) for number, value in fields if number == MODEL["pieces"])
    if not 0 < len(pieces) <= MOST_PIECES:
        raise ValueError(f"it has {len(pieces)} pieces; expected 1 to {MOST_PIECES}")
    trainer, normalizer = (_merged(fields, MODEL[name]) for name in ("trainer", "normalizer"))
    return SentencePieceModel(
        pieces,
        Algorithm(_number(trainer, TRAINER["algorithm"], Algorithm.UNIGRAM)),
        bool(_number(trainer, TRAINER["byte_fallback"], 0)),
        bool(_number(trainer, TRAINER["suffix"], 0)),
        bool(normalizer.get(NORMALIZER["charsmap"])),
        bool(_number(normalizer, NORMALIZER["prefix"], 1)),
        bool(_number(normalizer, NORMALIZER["strips"], 1)),
        bool(_number(normalizer, NORMALIZER["escapes"], 1)),
    )


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score = _bytes(fields.get(PIECE["text"], b"")).decode(), fields.get(PIECE["score"], 0.0)
    if not 0 < len(text) <= LONGEST_PIECE or not isinstance(score, float):
        raise ValueError(f"a piece has {len(text)} characters and score {score!r}")
    return Piece(text, score, Kind(_number(fields, PIECE["kind"], Kind.NORMAL)))


def _merged(fields: list[tuple[int, Value]], number: int) -> dict[int, Value]:
    """A message that stands there once, or in parts; of each field the last is what counts."""
    return {inner: value for outer, part in fields if outer == number for inner, value in _fields(_bytes(part))}


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif wire == BYTES:
            length, at = _varint(data, at)
            yield number, _slice(data, at, length)
            at += length
        elif wire == FIXED32:
            yield number, float(struct.unpack("<f", _slice(data, at, 4))[0])
            at += 4
        elif wire == FIXED64:
            yield number, _slice(data, at, 8)
            at += 8
        else:
            raise ValueError(f"a field has wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where the next thing begins."""
    value = 0
    for place in range(LONGEST_VARINT):
        (byte,) = _slice(data, at + place, 1)
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number has no end")


def _slice(data: bytes, at: int, length: int) -> bytes:
    part = data[at : at + length]
    if len(part) < length:
        raise ValueError("it is cut short")
    return part


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field is a number where a message or text belongs")
    return value


def _number(fields: dict[int, Value], number: int, default: int) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ValueError("a field is no number")
    return value
