"""The document: sealed, the same bytes for the same content, read back; and what is refused, with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.daemon.config import load_config
from stillframe.errors import StillframeError
from stillframe.testing import policy_info
from stillframe.tools.certify.arms import arm_specs
from stillframe.tools.certify.certificate import Certificate, Times, canonical, read_certificate, seal_of, sealed
from stillframe.tools.certify.compare import TickComparison, Took
from stillframe.tools.certify.facts import digest_of
from stillframe.tools.certify.page import broken_lines, page, verdict_line
from stillframe.tools.certify.results import result

DOCS = Path(__file__).parents[3] / "docs" / "certificates"
once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(made: Certificate, tmp_path: Path) -> Path:
    """On disk."""
    written = tmp_path / "tiny.json"
    written.write_text(sealed(made))
    return written


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a document that holds no other."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for key, part in inside for place in leaves(part, (*path, key))]
    yield from found or [path]


def changed(document: Any, path: tuple[Any, ...]) -> Any:
    """A copy with another value at a place."""
    if not path:
        return "another" if document != "another" else "one more"
    key, *rest = path
    copied: Any = dict(document) if isinstance(document, dict) else [*document]
    copied[key] = changed(document[key], tuple(rest))
    return copied


def test_what_is_written_is_read_back(made: Certificate, file: Path) -> None:
    """All of it, and written again it is the same bytes."""
    found = read_certificate(file)

    assert found == made
    assert sealed(found) == file.read_text()


def test_the_seal_is_of_the_content_however_it_is_laid_out(file: Path, made: Certificate) -> None:
    """Keys in another order and other spaces are the same certificate."""
    document = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(document.items())), indent=7))

    assert read_certificate(file) == made
    assert document["seal"] == seal_of(document) == seal_of({key: document[key] for key in document if key != "seal"})
    assert document["seal"] == hashlib.sha256(canonical(made.model_dump(mode="json"))).hexdigest()


@once
@given(st.data())
def test_any_change_breaks_the_seal(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Of any value at any depth, the seal's own too; the error says what to do."""
    document = json.loads(file.read_text())
    place = data.draw(st.sampled_from([place for place in leaves(document) if place != ("format",)]))
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(changed(document, place)))

    with pytest.raises(StillframeError, match=r"forged.json: its content is not what was sealed .* get the original"):
        read_certificate(forged)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda document: document | {"format": "stillframe-replay/1"}, "has format 'stillframe-replay/1'; expected"),
        (lambda document: document | {"host": "lab"}, "host: Extra inputs"),
        (lambda document: {key: document[key] for key in document if key != "bound"}, "bound: Field required"),
        (lambda document: changed(document, ("robots",)), "robots: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_other_documents_are_refused(file: Path, edit: Callable[[Any], Any], said: str) -> None:
    """Of another kind, or sealed with fields that are not a certificate's."""
    document = edit({key: value for key, value in json.loads(file.read_text()).items() if key != "seal"})
    file.write_text(json.dumps(document | {"seal": seal_of(document)}))

    with pytest.raises(StillframeError, match=said):
        read_certificate(file)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    """By name."""
    (tmp_path / "a.json").write_text("# Certificate")

    with pytest.raises(StillframeError, match=r"a.json is not JSON"):
        read_certificate(tmp_path / "a.json")


def test_digests_of_files_are_those_of_sha256sum() -> None:
    """One line a file, by name: anyone can take them with coreutils."""
    lines = f"{'a' * 64}  checkpoints/b.pt\n{'c' * 64}  config.json\n"

    assert (
        digest_of({"config.json": "c" * 64, "checkpoints/b.pt": "a" * 64}) == hashlib.sha256(lines.encode()).hexdigest()
    )


def test_a_page_says_what_the_json_says(made: Certificate) -> None:
    """Every arm with its verdict, the seal, the digests, the load, what is not here; times with their jitter."""
    text = page(made, "tiny.json")

    for one in made.arms:
        assert f"| {one.name} | {one.promise} | {one.verdict} |" in text
        if one.times is not None:
            assert f"{one.times.p50_ms:.2f} | {one.times.p99_ms:.2f} | {one.times.worst_ms:.2f} |" in text
        if one.why is not None:
            assert f"- **{one.name}**: {one.why}" in text
    for said in (seal_of(made.model_dump(mode="json")), made.checkpoint.sha256, made.frames.sha256, "Load average"):
        assert said in text
    assert "(tiny.json)" in text
    assert "**broken**" not in text
    assert verdict_line(made) in text


def test_a_page_says_what_is_broken(made: Certificate) -> None:
    """On top: the arm, the promise, the first tick."""
    arms = [
        one.model_copy(update={"answers": one.answers.model_copy(update={"broken_ticks": [3, 4]})})
        if one.name == "batched" and one.answers
        else one
        for one in made.arms
    ]
    broken = made.model_copy(update={"arms": arms, "broken": True})
    (line,) = broken_lines(broken)

    assert line == "batched promises as reported, and tick 3 is further off (2 of 5 ticks)"
    assert f"- **broken**: {line}" in page(broken, "a.json")
    assert "a promise is broken" in verdict_line(broken)


def test_times_add_up() -> None:
    """Jitter is p99 less p50; the ratio is of medians for each frame, of CPU time where one thread does the work."""

    def of(factor: float) -> list[TickComparison]:
        zeros = np.zeros((1, 7))
        return [
            TickComparison(at, Took(factor * at, factor), True, 0, 0, 0, zeros, zeros, True, None, 0.0, 1)  # noqa: FBT003
            for at in range(1, 101)
        ]

    spec = arm_specs(load_config(None, {"checkpoint": "none"}), policy_info(), 2, [])[0]
    batched = replace(spec, robots=4)

    def times(*, one_thread: bool) -> Times:
        found = result(
            batched, of(2), "", policy_info().action_names, bound=0, repeatable=True, plain=of(3), one_thread=one_thread
        )
        assert found.times is not None
        return found.times

    wall, cpu = times(one_thread=False), times(one_thread=True)

    assert (wall.frames_per_pass, wall.p50_ms, wall.worst_ms) == (4, 101, 200)
    assert wall.p99_ms == pytest.approx(198, abs=0.1)
    assert wall.jitter_ms == pytest.approx(wall.p99_ms - 101)
    assert wall.std_ms == pytest.approx(2 * np.std(range(1, 101)), abs=1e-3)
    assert (wall.cpu_p50_ms, wall.cpu_p99_ms, wall.times_plain) == (None, None, 6)
    assert (cpu.cpu_p50_ms, cpu.cpu_p99_ms, cpu.times_plain) == (2, 2, 6)


def test_the_schema_in_docs_is_the_documents() -> None:
    """`python -c "..."` as docs/certificates/README.md has it writes it anew."""
    assert json.loads((DOCS / "schema.json").read_text()) == Certificate.model_json_schema()
