"""The lab's commands, found by entry point: installed, missing, broken."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest
import typer

from stillframe import cli
from stillframe.cli import plugins
from stillframe.cli.app import ORDER

Run = Callable[..., tuple[int, str, str]]  # words -> status, stdout, stderr


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program's own main() in this process."""

    def type_in(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stillframe", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return type_in


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make main() run an application with a command `serve` and these entry points' commands alone."""

    def install(*entries: EntryPoint) -> None:
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

        @app.command("serve")
        def serve() -> None:
            typer.echo("serving")

        monkeypatch.setattr(plugins, "entry_points", lambda group: [one for one in entries if one.group == group])
        plugins.add_commands(app)
        monkeypatch.setattr(cli, "app", app)

    return install


def entry(name: str, value: str) -> EntryPoint:
    """An entry point of the commands' group."""
    return EntryPoint(name, value, plugins.GROUP)


def listed(text: str) -> list[str]:
    """The commands of a help text, in its order."""
    return re.findall(r"(?m)^  ([a-z]+) ", text.partition("Commands:")[2])


def test_with_the_lab_its_commands_are_there(run: Run) -> None:
    """All commands are listed, the daemon's first, in one order wherever entry points are found."""
    status, out, _ = run("--help")

    assert status == 0
    assert listed(out) == [*ORDER]


@pytest.mark.parametrize("name", plugins.LAB_COMMANDS)
@pytest.mark.parametrize("words", [(), ("--help",), ("policy", "--out", "x", "-q")])
def test_without_the_lab_its_commands_say_what_to_install(
    run: Run, installed: Callable[..., None], name: str, words: tuple[str, ...]
) -> None:
    """Whatever is typed after them: one line on stderr that names the distribution, and status 1."""
    installed()

    status, out, err = run(name, *words)

    assert (status, out) == (1, "")
    assert (
        err
        == f"stillframe: '{name}' is a command of stillframe-lab, not installed here; run: {plugins.HOW_TO_INSTALL}\n"
    )


def test_without_the_lab_its_commands_are_not_listed(run: Run, installed: Callable[..., None]) -> None:
    """--help shows what can be run."""
    installed()

    assert not {*plugins.LAB_COMMANDS} & {*re.findall(r"\w+", run("--help")[1])}


@pytest.mark.parametrize("value", ["nowhere.at_all:demo", "stillframe.errors:no_such_name"])
def test_a_lab_that_cannot_be_imported_leaves_the_daemon_alone(
    run: Run, installed: Callable[..., None], value: str
) -> None:
    """`serve` runs; the broken command says why it cannot, and what to install."""
    installed(entry("demo", value))

    assert run("serve") == (0, "serving\n", "")
    status, out, err = run("demo", "--out", "x")
    assert (status, out) == (1, "")
    assert f"'demo' comes from {value}, which cannot be imported" in err
    assert plugins.HOW_TO_INSTALL in err


def test_a_broken_command_of_others_does_not_ask_for_the_lab(run: Run, installed: Callable[..., None]) -> None:
    """What to install is known of the lab alone."""
    installed(entry("fly", "nowhere.at_all:fly"))

    status, _, err = run("fly")

    assert status == 1
    assert "nowhere.at_all:fly" in err
    assert "stillframe-lab" not in err


def test_commands_and_groups_are_added(run: Run, installed: Callable[..., None]) -> None:
    """An entry point may name a function, or an application whose commands stand below the name."""
    installed(
        entry("demo", "stillframe_lab.cli.demo:demo_command"), entry("train", "stillframe_lab.cli.training:train_app")
    )

    assert "--config" in run("demo", "--help")[1]
    assert listed(run("train", "--help")[1])[:2] == ["demos", "policy"]


def test_an_entry_point_cannot_replace_a_command(run: Run, installed: Callable[..., None]) -> None:
    """`serve` is the daemon's, whatever is installed beside it."""
    installed(entry("serve", "stillframe_lab.cli.demo:demo_command"))

    assert run("serve") == (0, "serving\n", "")


def test_the_labs_commands_may_be_imported_first() -> None:
    """By a notebook or another test: what is imported in a circle is imported whole."""
    program = "import stillframe_lab.cli.evaluation; from stillframe import cli; cli.main()"
    ran = subprocess.run([sys.executable, "-c", program, "eval", "--help"], capture_output=True, text=True, check=False)

    assert (ran.returncode, "Play episodes" in ran.stdout) == (0, True), ran.stderr


def test_no_command_waits_for_what_it_does_not_need() -> None:
    """With the lab's commands beside the daemon's, words are read before torch, a simulator or charts are imported."""
    slow = ("torch", "transformers", "mujoco", "dm_control", "matplotlib")
    program = f"import sys; from stillframe import cli; print([name for name in {slow} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
