from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe import cli

Run = Callable[..., tuple[int, str, str]]  # words -> status, stdout, stderr
# The towers' last parts; the decoder's head, where another one says the action; of CogACT its history's embedder.
UNUSED = {"openvla": "43 tensors", "oft": "44 tensors", "cogact": "46 tensors"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`stillframe inspect ...` by the program's own main()."""

    def type_in(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["stillframe", "inspect", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return type_in


@pytest.mark.parametrize("name", ["openvla", "oft", "cogact"])
def test_a_person_can_read_it(request: pytest.FixtureRequest, run: Run, name: str) -> None:
    """Within 80 columns: family, parts, statistics, contract, tokenizer."""
    status, out, err = run(request.getfixturevalue(name))

    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for said in (
        "family",
        "decoder",
        "dataset_statistics.json",
        "dx [m]",
        "lone space id",
        UNUSED[name],
    ):
        assert said in out


def test_a_refused_folder_fails_with_the_reason(openvla: Path, run: Run) -> None:
    """Tables of what is known on standard output, the refusal in one line on the other, status 1."""
    (openvla / "tokenizer.json").unlink()
    status, out, err = run(openvla)

    assert status == 1
    assert "language_model" in out
    assert "served   no" in out
    assert err.startswith(f"stillframe: {openvla} lacks tokenizer.json")


def test_json_holds_all_of_it(oft: Path, run: Run, tmp_path: Path) -> None:
    """To a file beside the tables, or alone to standard output."""
    run(oft, "--json", tmp_path / "found.json")
    status, out, _ = run(oft, "--json", "-")
    document = json.loads(out)

    assert status == 0
    assert json.loads((tmp_path / "found.json").read_text()) == document
    assert (document["served"], document["family"], document["refusal"]) == (True, "openvla_oft", None)
    assert document["contract"]["action"]["chunk_horizon"] == 8
    assert document["state"]["names"][0] == "x"
    assert document["parts"][4]["name"] == "action head"
    assert document["unused"]["count"] == 44


def test_json_of_a_refused_folder_has_the_reason(tmp_path: Path, run: Run) -> None:
    """And the status is 1 all the same."""
    status, out, err = run(tmp_path, "--json", "-")

    assert status == 1
    assert err == f"stillframe: {json.loads(out)['refusal']}\n"


def test_a_deployments_yaml_names_the_folder_and_its_keys(oft: Path, run: Run, tmp_path: Path) -> None:
    """What is inspected is what `serve` would load."""
    yaml = tmp_path / "a.yaml"
    yaml.write_text(f"checkpoint: {oft}\ncheckpoint_config: {{num_actions_chunk: 5, cameras: [image]}}\n")
    document = json.loads(run(yaml, "--json", "-")[1])

    assert document["contract"]["action"]["chunk_horizon"] == 5
    assert document["contract"]["observation"]["cameras"] == ["image"]


def test_names_in_brackets_are_no_markup(openvla: Path, run: Run) -> None:
    """A data set may be called anything."""
    file = openvla / "dataset_statistics.json"
    (entry,) = json.loads(file.read_text()).values()
    file.write_text(json.dumps({"[bold]a[/red]": entry, "b": entry}))

    assert "[bold]a[/red]" in run(openvla)[1]
