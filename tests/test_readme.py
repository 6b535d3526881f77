"""Hold the READMEs to what is there: their commands parse, their Python runs, their links and paths lead somewhere."""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from stillframe.cli import app
from stillframe.web.http.parsing import parse_json
from stillframe_client.jaco2.cli.parser import parse_arguments

ROOT = Path(__file__).resolve().parents[1]
READMES = (
    "README.md",
    "server/README.md",
    "client/README.md",
    "lab/README.md",
    "examples/README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "client/stillframe_client/jaco2/README.md",
)
# What the prose may name that no fresh clone holds: a folder that `make demo` makes, one that users bring.
MADE_LATER = {"runs/", "path/to/openvla-7b"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")
CODE = re.compile(r"`([^`\n]+)`")
CLASS = re.compile(r"[A-Z][a-z]+([A-Z][a-z]*)*")
PATHLIKE = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml", ".txt")


def text(readme: str) -> str:
    """One README."""
    return (ROOT / readme).read_text(encoding="utf-8")


def blocks(readme: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for name, body in BLOCK.findall(text(readme)) if name == language]


def commands() -> Iterator[list[str]]:
    """Every command of every `sh` block as words, continued lines joined, comments gone; a pipe joins commands."""
    for readme in READMES:
        for block in blocks(readme, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                yield from (list(group) for is_pipe, group in groupby(words, "|".__eq__) if not is_pipe)


def commands_of(program: str) -> list[list[str]]:
    """The words after `program`, for each of its commands."""
    return [words[1:] for words in commands() if words[0] == program]


def named_paths(readme: str) -> Iterator[str]:
    """What a README links to within the repository or names as code that is a path."""
    prose = BLOCK.sub("", text(readme))
    yield from (target for target in LINK.findall(prose) if "://" not in target)
    for code in CODE.findall(prose):
        if PATHLIKE.fullmatch(code) and ("/" in code or code.endswith(SUFFIXES)):
            yield code


def is_there(path: str, readme: str) -> bool:
    """Whether the path exists from the root, from its README or from the package; a lone name may lie deeper."""
    home, server = (ROOT / readme).parent, ROOT / "server" / "stillframe"
    lone = "/" not in path and any((home / "stillframe").rglob(path))
    return lone or any(
        (place / path).exists() for place in (ROOT, home, home / "stillframe", home / "stillframe_lab", server)
    )


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parse(words: list[str]) -> None:
    """Parse a command of ours down to its last option, without running it; a usage error is raised."""
    command: Any = typer.main.get_command(app)
    while True:
        context = command.make_context(command.name, list(words))
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]  # where a group keeps its subcommand's words
        _, command, words = command.resolve_command(context, rest)


def test_the_readme_shows_how_to_begin() -> None:
    """A newcomer finds demo, test and serve, a client, and each in a block that the tests below look at."""
    assert {tuple(words) for words in commands_of("make")} >= {("demo",), ("test",), ("serve",)}
    assert any("PolicyClient" in block for block in blocks("README.md", "python"))
    assert commands_of("stillframe")


def test_every_command_is_of_a_program_we_check() -> None:
    """A block with another program would go unchecked."""
    assert {words[0] for words in commands()} <= {
        "make",
        "stillframe",
        "stillframe-jaco2",
        "pip",
        "printf",
        "curl",
        "docker",
    }


@pytest.mark.parametrize("words", commands_of("make"), ids=" ".join)
def test_make_has_the_target(words: list[str]) -> None:
    """Every target exists; variables aside."""
    assert {word for word in words if "=" not in word} <= targets()


@pytest.mark.parametrize("words", commands_of("stillframe-jaco2"), ids=" ".join)
def test_the_bridges_commands_parse(words: list[str]) -> None:
    """Its parser takes them, and the configurations that they name are there."""
    options = parse_arguments(words)

    assert options.config is None or (ROOT / options.config).is_file()


@pytest.mark.parametrize("words", commands_of("pip"), ids=" ".join)
def test_what_pip_installs_has_those_extras(words: list[str]) -> None:
    """The client alone is named, with extras that its pyproject.toml has."""
    install, target = words
    name, _, extras = target.rstrip("]").partition("[")
    project = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]

    assert (install, name) == ("install", project["name"])
    assert {*extras.split(",")} <= {*project["optional-dependencies"]}


@pytest.mark.parametrize("words", commands_of("stillframe"), ids=" ".join)
def test_our_commands_parse(words: list[str]) -> None:
    """Subcommand, options, kinds of values: all as the program has them."""
    parse(words)


def test_a_wrong_command_would_not_parse() -> None:
    """The test above can fail: at a subcommand, at an option, at a value."""
    for words in (["sevre"], ["eval", "--episode", "3"], ["eval", "--episodes", "many"], ["train", "polcy"]):
        with pytest.raises(Exception, match=r"(?i)no such|valid integer"):
            parse(words)


@pytest.mark.parametrize("words", commands_of("stillframe"), ids=" ".join)
def test_configurations_that_commands_name_are_there(words: list[str]) -> None:
    """Every YAML on a command line lies in the repository."""
    assert all((ROOT / word).is_file() for word in words if word.endswith(".yaml"))


def test_compose_has_a_file() -> None:
    """`docker compose` runs where the README is."""
    assert all(words[0] == "compose" for words in commands_of("docker"))
    assert (ROOT / "docker-compose.yml").is_file()


@pytest.mark.process
def test_what_curl_posts_is_a_frame(tmp_path: Path) -> None:
    """Run by a shell, the example hands curl a picture too large for one argument: whole, in the fields of a frame."""
    (example,) = (block for block in blocks("README.md", "sh") if "curl" in block)
    picture = np.random.default_rng(0).bytes(1_000_000)
    (tmp_path / "frame.jpg").write_bytes(picture)
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\ncat > body\n')
    (tmp_path / "curl").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", example], cwd=tmp_path, env={"PATH": path}, check=True)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    fields = parse_json((tmp_path / "body").read_bytes(), max_parts=100)

    assert "http://127.0.0.1:8000/v1/act" in arguments
    assert arguments[arguments.index("-d") + 1] == "@-"
    assert set(fields) == {"image", "instruction"}
    assert base64.b64decode(fields["image"], validate=True) == picture


@pytest.mark.parametrize("readme", READMES)
def test_python_compiles(readme: str) -> None:
    """Every block is a whole program."""
    for number, block in enumerate(blocks(readme, "python")):
        compile(block, f"{readme}, python block {number}", "exec")


@pytest.mark.parametrize("readme", ["README.md", "client/README.md"])
def test_the_clients_example_runs(readme: str, golden_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but for the address: it prints an action of seven finite numbers."""
    example = next(block for block in blocks(readme, "python") if "PolicyClient" in block)
    assert example.count("http://127.0.0.1:8000") == 1
    exec(compile(example.replace("http://127.0.0.1:8000", golden_url), readme, "exec"), {})  # noqa: S102 -- our README
    action = np.fromstring(capsys.readouterr().out.strip().strip("[]"), sep=" ")

    assert action.shape == (7,)
    assert np.isfinite(action).all()


@pytest.mark.parametrize("readme", READMES)
def test_links_and_paths_lead_somewhere(readme: str) -> None:
    """Everything that a README links to or names as a path is there."""
    dead = [path for path in named_paths(readme) if path not in MADE_LATER and not is_there(path, readme)]

    assert dead == []


def test_the_house_map_names_every_room() -> None:
    """Each package and each module beside them stands in server/README.md."""
    house = ROOT / "server" / "stillframe"
    rooms = {f"{folder.parent.name}/" for folder in house.glob("*/__init__.py")}
    modules = {file.name for file in house.glob("*.py") if not file.name.startswith("__")}
    named = set(named_paths("server/README.md"))

    assert rooms <= named
    assert modules <= named


def test_the_architecture_names_what_is_there() -> None:
    """Every class that docs/architecture.md names, in code or as what a thing is called now, is defined."""
    page = text("docs/architecture.md")
    now = [row.split("|")[2] for row in page.partition("| was | is |")[2].splitlines() if row.count("|") == 3]
    code = [name for name in CODE.findall(page) if CLASS.fullmatch(name)]
    named = {*code, *(name for cell in now for name in re.findall(r"\b[A-Z]\w*[a-z]\w*\b", cell))}
    packages = [ROOT / "server", ROOT / "client", ROOT / "lab"]
    sources = [file.read_text(encoding="utf-8") for place in packages for file in place.rglob("*.py")]
    defined = {name for source in sources for name in re.findall(r"^class (\w+)", source, re.MULTILINE)}

    assert len(named) > 40
    assert named - defined == set()
