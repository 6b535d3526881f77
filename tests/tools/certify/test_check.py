"""A certificate is checked: the seal, the files, the machine, the same ticks again; and the command's exit status."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stillframe import cli
from stillframe.engine.session_state import SessionState
from stillframe.errors import ConfigError, StillframeError
from stillframe.tools.certify import check
from stillframe.tools.certify.certificate import Certificate, read_certificate, seal_of, sealed

CHECKPOINTS, DOCS = (Path(__file__).parents[3] / name for name in ("checkpoints", "docs/certificates"))
ONE_THREAD = ("--device", "cpu", "--dtype", "float32", "--threads", 1)
Type = Callable[..., tuple[int, str, str]]  # words -> status, stdout, stderr


@pytest.fixture
def certify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """`stillframe certify ...` by the program's own main()."""

    def type_in(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stillframe", "certify", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return type_in


@pytest.fixture
def file(made: Certificate, tmp_path: Path) -> Path:
    """The tiny checkpoint's, on disk."""
    written = tmp_path / "tiny.json"
    written.write_text(sealed(made))
    return written


def kinds(findings: list[check.Finding]) -> set[str]:
    """What was found."""
    return {finding.kind for finding in findings}


def test_the_files_are_digested_again(made: Certificate, tiny_folder: Path, tmp_path: Path) -> None:
    """A changed weight, a file that went and one that came are each named."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny-vla"))
    whole = [*check.check_weights(made, folder)]
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (folder / "memory.json").write_text("{}")
    (finding,) = check.check_weights(made, folder)

    assert kinds(whole) == {"ok"}
    assert finding.kind == "fails"
    assert "memory.json, model.safetensors of tiny-vla are not what was certified" in finding.text


def test_what_differs_here_is_said(made: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions and the CPU; none of it makes the paper false."""
    same = [*check.check_machine(made)]
    monkeypatch.setattr(check, "versions", lambda: {**made.versions, "torch": "9.9"})
    monkeypatch.setattr(check, "cpu_flags", lambda: {"amx_tile"})
    findings = [*check.check_machine(made)]

    assert kinds(same) == {"ok"}
    assert kinds(findings) == {"differs"}
    assert [finding.text.partition(":")[0] for finding in findings] == ["cpu_flags", "torch"]
    assert f"torch: {made.versions['torch']} there, 9.9 here" in findings[1].text


def test_the_same_ticks_again_are_the_same_answers(certify: Type, file: Path, tiny_folder: Path) -> None:
    """Every arm to the bit, by the settings that the certificate holds."""
    status, out, err = certify(tiny_folder, "--check", file, "--rerun")

    assert (status, err) == (0, "")
    assert out.startswith("seal: whole; tiny-vla: every promise is kept; of 9 arms ")
    assert out.count("answers as certified, to the bit") == 8
    assert "graphs: not compared" in out
    assert "differs:" not in out


def test_other_answers_on_the_same_machine_fail(
    certify: Type, made: Certificate, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is another explains them; where something is, it is told and no more."""
    arms = [
        one.model_copy(update={"answers": one.answers.model_copy(update={"sha256": "0" * 64})})
        if one.name == "reuse adaptive" and one.answers
        else one
        for one in made.arms
    ]
    (tmp_path / "a.json").write_text(sealed(made.model_copy(update={"arms": arms})))
    status, out, err = certify(tiny_folder, "--check", tmp_path / "a.json", "--rerun")
    monkeypatch.setattr(check, "versions", lambda: {**made.versions, "torch": "9.9"})
    elsewhere, said, _ = certify(tiny_folder, "--check", tmp_path / "a.json", "--rerun")

    assert (status, elsewhere) == (1, 0)
    assert "fails: reuse adaptive: " in out
    assert "reuse adaptive: approximate here, approximate there; answers are not those certified" in err
    assert "differs: reuse adaptive: " in said


def test_a_promise_that_is_broken_again_fails(
    certify: Type, file: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the certificate says of another day."""
    take = SessionState.take_vision_rows

    def spoilt(self: SessionState, prepared: object) -> object:
        rows = take(self, prepared)  # type: ignore[arg-type]
        return rows.flip(0) if isinstance(rows, torch.Tensor) else rows

    monkeypatch.setattr(SessionState, "take_vision_rows", spoilt)
    status, _, err = certify(tiny_folder, "--check", file, "--rerun")

    assert status == 1
    assert "drafts exact: broken here, at tick 3; equal there" in err.replace("\n", " ")


def test_a_broken_promise_is_written_and_fails(
    certify: Type, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are there and say so; the error names arm and tick; a later check fails as well."""
    take = SessionState.take_vision_rows

    def spoilt(self: SessionState, prepared: object) -> object:
        rows = take(self, prepared)  # type: ignore[arg-type]
        return rows.flip(0) if isinstance(rows, torch.Tensor) else rows

    with monkeypatch.context() as patched:
        patched.setattr(SessionState, "take_vision_rows", spoilt)
        out = tmp_path / "deep" / "a.json"
        status, said, err = certify(tiny_folder, "--out", out, "--ticks", 4, "--robots", 2, *ONE_THREAD)
    later, _, why = certify(tiny_folder, "--check", out)

    assert (status, later) == (1, 1)
    assert "drafts exact promises as reported, and tick 3 is further off (1 of 4 ticks)" in err
    assert why == err
    assert said.splitlines()[-2:] == [str(out), str(out.with_suffix(".md"))]
    assert read_certificate(out).broken
    assert "**broken**" in out.with_suffix(".md").read_text()


def test_files_go_where_they_are_asked(
    certify: Type, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default beside one's feet, by the checkpoint's name; the seal on the page is the file's."""
    monkeypatch.chdir(tmp_path)
    status, out, err = certify(tiny_folder, "--ticks", 1, "--robots", 2, "--seed", 7, *ONE_THREAD)
    document = json.loads((tmp_path / "tiny-vla-certificate.json").read_text())

    assert (status, err) == (0, "")
    assert "every promise is kept" in out
    assert (document["frames"]["seed"], document["frames"]["ticks"], document["robots"]) == (7, 1, 2)
    assert document["settings"]["threads"] == 1
    assert seal_of(document) in (tmp_path / "tiny-vla-certificate.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rerun",), "--rerun goes with --check FILE.json"),
        (("--weights", "int9"), "--weights int9: expected int8, int8-weight-only, int4-weight-only, fp8."),
        (("--check", "none.json"), "none.json cannot be read"),
        (("--frames", "nowhere"), "cannot read nowhere"),
        (("--out", "missing.json/a/b.json", "--ticks", "1"), "missing.json"),
    ],
    ids=str,
)
def test_wrong_words_are_refused(
    certify: Type, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    """In one line, with what was expected."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "missing.json").write_text("a file, no folder")
    status, _, err = certify(tiny_folder, *words, *ONE_THREAD)

    assert status == 1
    assert said in err
    assert err.count("\n") == 1


def test_a_folder_that_is_no_checkpoint_is_refused(certify: Type, file: Path, tmp_path: Path) -> None:
    """When a certificate is made, and when one is checked."""
    for words in ((), ("--check", file)):
        status, _, err = certify(tmp_path, *words)
        assert status == 1
        assert "config.json" in err


def test_a_recordings_ticks_need_the_recording(made: Certificate, tiny_folder: Path, heard: object) -> None:
    """They are not in the certificate."""
    of_recording = made.model_copy(update={"frames": made.frames.model_copy(update={"kind": "recording"})})

    with pytest.raises(StillframeError, match=r"--rerun needs them, with --frames RECORDING"):
        check.rerun(of_recording, check.deployment_of(made, tiny_folder, {}), None, heard)  # type: ignore[arg-type]


def test_other_ticks_are_not_compared(made: Certificate, tiny_folder: Path, heard: object) -> None:
    """A scene that this machine draws otherwise is no proof of anything."""
    other = made.model_copy(update={"frames": made.frames.model_copy(update={"sha256": "0" * 64, "ticks": 1})})

    with pytest.raises(StillframeError, match=r"the 1 ticks shown here are not those certified"):
        check.rerun(other, check.deployment_of(made, tiny_folder, {}), None, heard)  # type: ignore[arg-type]


def test_settings_of_another_version_are_refused(made: Certificate, tiny_folder: Path) -> None:
    """By their name."""
    other = made.model_copy(update={"settings": {**made.settings, "dream": 1}})

    with pytest.raises(ConfigError, match="dream"):
        check.deployment_of(other, tiny_folder, {})


@pytest.mark.parametrize("file", sorted(DOCS.glob("jaco-*.json")), ids=lambda file: file.stem)
def test_certificates_in_docs_are_of_the_checkpoints_that_ship(file: Path) -> None:
    """Sealed, and of the very files: a checkpoint that is trained anew needs another. The page is of the same seal."""
    certificate = read_certificate(file)

    assert certificate.checkpoint.name == file.stem
    assert kinds([*check.check_weights(certificate, CHECKPOINTS / file.stem)]) == {"ok"}
    assert seal_of(certificate.model_dump(mode="json")) in file.with_suffix(".md").read_text()
