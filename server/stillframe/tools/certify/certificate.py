"""Certificate: the document that is written, field by field, and the seal over it.

Knows JSON; measures nothing. The schema is `Certificate.model_json_schema()`, in docs/certificates/schema.json.
Canonical: keys sorted, no spaces, text as UTF-8, numbers as Python's json writes them. The seal is the SHA-256 of the
canonical form of all but the seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stillframe.domain import WeightScheme
from stillframe.errors import StillframeError
from stillframe.files.json import read_object
from stillframe.tools.certify.arms import Promise
from stillframe.tools.certify.compare import Verdict

FORMAT: Final = "stillframe-certificate/1"


class Part(BaseModel):
    """A section of a certificate: no key is unknown, no number is NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CheckpointFacts(Part):
    """What was certified."""

    name: str = Field(description="the folder's name, or its repository's")
    source: str | None = Field(description="org/name@commit of the hub; null: a folder of one's own")
    family: str
    parameters: int
    files: dict[str, str] = Field(description="file that is read, relative to the folder -> SHA-256 of its content")
    sha256: str = Field(
        description="SHA-256 of one line for each of `files`, sorted by name: its digest, two spaces, its name, a line "
        "feed; as `sha256sum` prints them"
    )


class MachineFacts(Part):
    """What it ran on."""

    cpu: str
    cpu_flags: list[str] = Field(description="instruction sets that matter to products, as the kernel lists them")
    cpu_capability: str = Field(description="which of them torch uses")
    cores: int = Field(description="that the process may use")
    threads: int = Field(description="of torch")
    gpu: str | None = Field(description="name, memory, compute capability; null: none was used")
    batch_invariant: bool = Field(description="a row's numbers do not depend on which rows share its pass; measured")
    load_average: list[list[float]] = Field(description="of 1, 5 and 15 minutes: before the ticks, and after them")


class FrameFacts(Part):
    """What every arm was shown."""

    kind: Literal["scene", "recording"]
    seed: int | None = Field(description="of a scene; null: frames of a recording")
    ticks: int
    sha256: str = Field(description="over all that was shown; see tools/certify/ticks.py")


class Distance(Part):
    """How far one number of an action is off, over all ticks, in the robot's units."""

    largest: float
    mean: float


class Drift(Part):
    """How far a tick's furthest number is off, normalised units, over all ticks."""

    p50: float
    p90: float
    largest: float
    mean: float = Field(description="of all numbers of all ticks, not of the furthest alone")


class Tie(Part):
    """A token that differs because two were as good as equal."""

    tick: int
    token: int
    lead: float = Field(description="logits of the plain token over the other")
    reach: float = Field(description="logits that rounding may move a lead by")


class Answers(Part):
    """What an arm answered, against the plain answers to the same ticks."""

    ticks: int
    promised_to_the_bit: int = Field(description="of these")
    equal: int = Field(description="to the bit")
    tokens: int = Field(description="compared")
    tokens_differ: int
    actions: int = Field(description="compared")
    actions_differ: int = Field(description="in any number")
    distance: dict[str, Distance] = Field(description="name of an action's number -> how far off, in its units")
    drift: Drift
    near_ties: list[Tie]
    broken_ticks: list[int] = Field(description="further off than was promised, counted from 0")
    reuse_ratio: float = Field(description="mean")
    passes: float = Field(description="of the decoder, an action; mean")
    sha256: str = Field(description="of all answers: each tick's numbers as little-endian doubles, then its tokens")


class Times(Part):
    """Wall time of an arm's passes, pictures to actions, and CPU time; nothing of it is queue or network."""

    frames_per_pass: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    jitter_ms: float = Field(description="p99 - p50")
    std_ms: float
    cpu_p50_ms: float | None = Field(description="of the one thread that does all the work; null: it is not one")
    cpu_p99_ms: float | None
    times_plain: float = Field(
        description="the plain arm's p50 / this one's for each frame: above 1 is faster; of CPU time where there is one"
    )


class ArmResult(Part):
    """One way of answering."""

    name: str
    about: str
    promise: Promise
    verdict: Verdict
    why: str | None = Field(description="it is not here; null: it is")
    answers: Answers | None
    times: Times | None


class Certificate(Part):
    """How far the accelerated answers of a checkpoint are from the plain ones on one machine, and how fast."""

    format: Literal["stillframe-certificate/1"] = FORMAT
    made: str = Field(description="when, UTC, ISO 8601")
    checkpoint: CheckpointFacts
    machine: MachineFacts
    versions: dict[str, str | None] = Field(
        description="of stillframe (its commit too), Python, torch, the kernel, ..."
    )
    settings: dict[str, Any] = Field(description="the deployment's keys that answers depend on, as its YAML has them")
    robots: int = Field(description="frames in one pass of the batched arm")
    weights: list[WeightScheme] = Field(description="quantised kinds that were asked for beside the deployment's")
    frames: FrameFacts
    rule: list[str] = Field(description="what the verdicts mean")
    bound: float = Field(description="normalised units that rounding may move a number of a chunk by, in this dtype")
    warm_up_ticks: int = Field(description="answered by every arm before the first tick: neither compared nor timed")
    arms: list[ArmResult]
    broken: bool = Field(description="whether any promise is")


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one way to write a document's content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def seal_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of all but the seal."""
    return hashlib.sha256(canonical({key: value for key, value in document.items() if key != "seal"})).hexdigest()


def sealed(certificate: Certificate) -> str:
    """The file's text: for people to read and compare line by line, and always the same for the same content."""
    document = certificate.model_dump(mode="json")
    return json.dumps(
        {**document, "seal": seal_of(document)}, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
    ) + "\n"  # fmt: skip


def read_certificate(file: Path) -> Certificate:
    """Read what `sealed` wrote. Raises StillframeError for another file, another version, or a seal that is broken."""
    document = read_object(file)
    if document.get("format") != FORMAT:
        raise StillframeError(
            f"{file} has format {document.get('format')!r}; expected {FORMAT!r}, of `stillframe certify`"
        )
    seal = document.pop("seal", None)
    if seal != seal_of(document):
        raise StillframeError(
            f"{file}: its content is not what was sealed (the seal says {seal}, the content is {seal_of(document)}); "
            "it was changed after it was made: make another, or get the original"
        )
    try:
        return Certificate.model_validate_json(canonical(document))
    except ValidationError as error:
        fault = error.errors()[0]
        raise StillframeError(f"{file}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
