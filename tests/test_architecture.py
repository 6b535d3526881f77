from __future__ import annotations

import ast
import functools
import gc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVER, CLIENT = ROOT / "server" / "stillframe", ROOT / "client" / "stillframe_client"
LAB = ROOT / "lab" / "stillframe_lab"
HOUSE = sorted(SERVER.rglob("*.py"))
CLIENT_FILES = sorted(CLIENT.rglob("*.py"))
LAB_FILES = sorted(LAB.rglob("*.py"))

# Room -> what it may import of ours, beside itself. A room is a folder or a module of server/stillframe.
BASE = {"domain", "errors"}
ARROWS = {
    "__init__": set(),
    "domain": set(),
    "errors": set(),
    "stopwatch": set(),
    "settings_fields": set(),
    "files": BASE,
    "tracing": BASE | {"settings_fields"},
    "metrics": BASE | {"tracing"},
    "recording": BASE | {"files"},
    "reuse": BASE | {"files", "settings_fields"},
    "sessions": BASE | {"settings_fields", "stopwatch"},
    "history": BASE | {"files", "settings_fields"},
    "models": BASE | {"files", "history", "reuse"},
    "engine": BASE | {"models", "reuse", "history", "settings_fields", "stopwatch"},
    "web": BASE
    | {"__init__", "metrics", "sessions", "settings_fields", "stopwatch", "tracing", "stillframe_client.wire"},
    "transport": BASE | {"web", "stillframe_client.wire"},
    "daemon": BASE
    | {"__init__", "engine", "files", "history", "metrics", "models", "recording", "reuse", "sessions"}
    | {"settings_fields", "tracing", "transport", "web", "stillframe_client.wire"},
    "tools": BASE
    | {"__init__", "daemon", "engine", "files", "models", "recording", "reuse", "stopwatch", "web"}
    | {"stillframe_client"},
    "cli": BASE | {"__init__", "daemon", "recording", "tools", "stillframe_client"},
    "testing": BASE | {"daemon", "metrics", "web"},
    "__main__": {"cli"},
}
# Of web: sub-room -> what it may import of web.
WEB_ARROWS = {
    "__init__": set(),
    "http": set(),
    "middleware": {"http"},
    "dialects": {"http"},
    "openapi": {"http"},
    "service": {"http", "middleware", "dialects"},
    "routes": {"http", "middleware", "dialects", "openapi", "service"},
    "streaming": {"http", "middleware", "dialects", "service"},
    "live": {"http", "middleware", "service"},
    "app": {"http", "middleware", "dialects", "openapi", "service", "routes", "streaming", "live"},
}
# Of the lab: sub-room -> what it may import of the lab.
LAB_ARROWS = {
    "__init__": set(),
    "evaluation": set(),
    "bridge": {"evaluation"},
    "libero": {"evaluation"},
    "kitchen": {"evaluation", "libero"},  # whose episodes it plays
    "rtc": {"evaluation"},
    "selector": {"evaluation"},
    "drafts": {"evaluation"},
    "dashboards": set(),
    "demo": {"evaluation"},
    "ablation": {"evaluation"},
    "history": {"ablation", "evaluation"},
    "latency": {"ablation", "evaluation"},
    "methods": {"ablation", "evaluation", "libero"},
    "parity": set(),
    "train": {"libero"},  # whose simulator and experts make demonstrations
    "progress": {"bridge", "train"},  # the types of what it shows
    "cli": {
        "ablation",
        "bridge",
        "demo",
        "drafts",
        "evaluation",
        "history",
        "kitchen",
        "latency",
        "libero",
        "methods",
        "parity",
        "progress",
        "rtc",
        "selector",
        "train",
    },
}
# Of the client's jaco2: room -> what it may import of jaco2, a room or one module of it.
JACO2_ARROWS: dict[str, set[str]] = {
    "__init__": set(),
    "ceilings": set(),
    "domain": set(),
    "rotations": {"domain"},
    "settings_fields": set(),
    "settings": {"ceilings", "settings_fields"},
    "config": {"settings", "settings_fields"},
    "core": {"ceilings", "domain", "rotations", "settings"},
    "link": {"core.messages", "core.watchdog", "domain"},  # whose words it carries
    "rosbridge": {"domain", "rotations", "settings"},
    "arms": {"ceilings", "domain", "rotations", "settings", "link", "rosbridge", "world"},
    "cameras": {"settings", "rosbridge", "world"},
    "world": {"ceilings", "domain", "rotations", "settings", "arms.driver", "arms.base_frame", "cameras.base"},
    "streamer": {"ceilings", "domain", "settings", "config", "core", "link", "arms"},
    "bridge": {"ceilings", "rotations", "settings", "config", "core.watchdog", "link", "cameras"},
    "reports": {"ceilings", "domain", "rotations", "settings", "config", "core"},
    "cli": {"ceilings", "domain", "rotations", "settings", "settings_fields", "config", "core", "link"}
    | {"arms", "cameras", "bridge", "reports", "world"},
}
JACO2 = CLIENT / "jaco2"
JACO2_FILES = sorted(JACO2.rglob("*.py"))
# The process that commands the arm: nothing here may be slow, and nothing that a picture or an answer can upset.
COMMANDS_THE_ARM = (
    "core",
    "link",
    "streamer",
    "arms",
    "ceilings",
    "domain",
    "rotations",
    "settings",
    "settings_fields",
)
NOT_BESIDE_THE_ARM = {"PIL", "cv2", "httpx", "asyncio", "msgpack", "matplotlib"}
LAB_MAY_ASK_CLI = {"stillframe.cli", "stillframe.cli.progress", "stillframe.cli.output"}
PERSONS = re.compile(r"\b(no|some|every|any)body\b|\bwhoever\b", re.IGNORECASE)
FAMILY = re.compile(r"openvla|(?<![a-z])oft(?![a-z])|cogact|(?<![a-z])pi0", re.IGNORECASE)
FAMILY_ROOMS = (
    "models/registry.py",
    "models/openvla/",
    "models/cogact/",
    "models/openvla_oft/",
    "models/pi0/",
    "web/dialects",
    "web/openapi/legacy_routes.py",
    "daemon/config.py",
)
STOCK = ("stillframe_lab/latency/stock.py", "stillframe_lab/latency/command.py")  # transformers' way; its version
WITHOUT_TORCH = ["web", "sessions", "recording", "daemon.config", "daemon.health", "domain", "errors"]
WITHOUT_TORCH += ["metrics", "tracing.opening"]  # which imports OpenTelemetry only if it is to


@pytest.fixture(scope="module", autouse=True)
def _no_search_for_garbage() -> Iterator[None]:
    """Parsed files are much, they stay, and no search would find garbage in them."""
    gc.disable()
    yield
    gc.enable()


def parsed(file: Path) -> ast.Module:
    """What a file says."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@functools.cache
def tree(file: Path) -> ast.Module:
    """The parsed file, kept. Read only."""
    return parsed(file)


@functools.cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """All that a file's tree is made of. Read only."""
    return tuple(ast.walk(tree(file)))


@functools.cache
def imported(file: Path) -> tuple[str, ...]:
    """Every module that a file imports, at its top or inside a function; `from a import b` gives a.b."""
    found: list[str] = []
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def room_of(file: Path) -> str:
    """The folder under server/stillframe, or the module that stands there alone."""
    return file.relative_to(SERVER).parts[0].removesuffix(".py")


def rooms(file: Path) -> set[str]:
    """The rooms that a file reaches into, the client's modules by their full name."""
    reached = set()
    for name in imported(file):
        package, *rest = name.split(".")
        if package == "stillframe":
            reached.add(rest[0] if rest and not rest[0].startswith("__") else "__init__")
        elif package == "stillframe_client":
            reached.add(".".join([package, *rest[:1]]))
    return reached - {room_of(file)}


def part_of_web(file: Path) -> str:
    """The folder or module of web in which a file is."""
    return file.relative_to(SERVER / "web").parts[0].removesuffix(".py")


def module_of(file: Path) -> str:
    """A file's name for import."""
    top = next(folder for folder in (SERVER, CLIENT, LAB) if file.is_relative_to(folder)).parent
    return ".".join(file.relative_to(top).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in [*HOUSE, *CLIENT_FILES, *LAB_FILES]}


def needs(file: Path) -> set[str]:
    """The modules of ours that a file imports; a package alone counts where a name of its __init__ is taken."""
    names = {name if name in MODULES else name.rpartition(".")[0] for name in imported(file)}
    return names & MODULES.keys() - {module_of(file)}


def packages(file: Path) -> set[str]:
    """The packages that a file imports, ours and others'."""
    return {name.split(".")[0] for name in imported(file)}


def named(file: Path) -> str:
    """A file's path for people."""
    return str(file.relative_to(ROOT))


def offenders(files: list[Path], wrong: Callable[[Path], set[str]]) -> dict[str, list[str]]:
    """File -> what is wrong with it, for the files with which anything is."""
    found = {named(file): sorted(wrong(file)) for file in files}
    return {file: faults for file, faults in found.items() if faults}


def test_every_room_has_its_place() -> None:
    """A new folder or module of the house is given its arrows here before it is built."""
    assert {room_of(file) for file in HOUSE} == ARROWS.keys()
    assert {part_of_web(file) for file in HOUSE if room_of(file) == "web"} == WEB_ARROWS.keys()


def test_arrows_point_down() -> None:
    """A room imports only what stands below it: web and engine never meet, no room knows one above, none the lab."""

    def upward(file: Path) -> set[str]:
        allowed = ARROWS[room_of(file)]
        return {room for room in rooms(file) if room not in allowed and room.split(".")[0] not in allowed}

    assert offenders(HOUSE, upward) == {}
    assert offenders([*HOUSE, *CLIENT_FILES], lambda file: packages(file) & {"stillframe_lab"}) == {}


def test_arrows_of_the_web_point_down() -> None:
    """Inside web: bytes and problems at the bottom, routes and streams side by side on top, app over all."""

    def upward(file: Path) -> set[str]:
        parts = [name.split(".")[2] for name in imported(file) if name.startswith("stillframe.web.")]
        return {*parts} - WEB_ARROWS[part_of_web(file)] - {part_of_web(file)}

    assert offenders([file for file in HOUSE if room_of(file) == "web"], upward) == {}


def test_arrows_of_the_lab_point_down() -> None:
    """Evaluation stands below what compares with it; training and evidence never meet; commands know them all."""

    def part(file: Path) -> str:
        return file.relative_to(LAB).parts[0].removesuffix(".py")

    def upward(file: Path) -> set[str]:
        parts = {name.split(".")[1] for name in imported(file) if name.startswith("stillframe_lab.")}
        return parts - LAB_ARROWS[part(file)] - {part(file)}

    assert {part(file) for file in LAB_FILES} == LAB_ARROWS.keys()
    assert offenders(LAB_FILES, upward) == {}


def test_the_lab_asks_little_of_the_command_line() -> None:
    """The laboratory draws progress and writes results as the daemon's commands do, and knows no command of theirs."""

    def asked(file: Path) -> set[str]:
        names = {name for name in imported(file) if name.startswith("stillframe.cli")}
        return {name for name in names if ".".join(name.split(".")[:3]) not in LAB_MAY_ASK_CLI}

    assert offenders(LAB_FILES, asked) == {}


def test_no_module_imports_itself_in_a_circle() -> None:
    """No module reaches itself by imports, those for types only included."""
    graph = {name: needs(file) for name, file in MODULES.items()}
    cyclic = set(graph)
    while ends := {
        name
        for name in cyclic  # what needs none of the rest is in no circle, and what none of the rest needs
        if not graph[name] & cyclic or not any(name in graph[other] for other in cyclic)
    }:
        cyclic -= ends

    assert cyclic == set()


def test_the_client_knows_no_server() -> None:
    """stillframe_client imports neither stillframe nor what servers are made of: it runs on the robot."""
    servers = {"stillframe", "torch", "transformers", "safetensors", "fastapi", "uvicorn", "pydantic"}

    assert offenders(CLIENT_FILES, lambda file: packages(file) & servers) == {}


def test_the_client_needs_no_simulator() -> None:
    """Only the room `sim` knows MuJoCo, and none but the bridge's simulated world imports that room."""
    inside = (CLIENT / "sim", JACO2 / "world")
    outside = [file for file in CLIENT_FILES if not {*inside} & {*file.parents}]

    def simulated(file: Path) -> set[str]:
        return packages(file) & {"mujoco", "dm_control"} | {name for name in imported(file) if ".sim" in name}

    assert offenders(outside, simulated) == {}


def room_of_jaco2(file: Path) -> str:
    """The folder under jaco2, or the module that stands there alone."""
    return file.relative_to(JACO2).parts[0].removesuffix(".py")


def of_jaco2(file: Path) -> Iterator[tuple[str, str]]:
    """What a file imports of jaco2: its room, and the module in it."""
    for name in needs(file):
        _, *below = name.removeprefix("stillframe_client.").split(".")
        if name.startswith("stillframe_client.jaco2.") and below:
            yield below[0], ".".join(below[:2])


def test_arrows_of_the_bridge_point_down() -> None:
    """Limits, domain and settings at the bottom; the arm's process and the policy's meet at the link alone."""

    def upward(file: Path) -> set[str]:
        allowed = JACO2_ARROWS[room_of_jaco2(file)] | {room_of_jaco2(file)}
        return {module for room, module in of_jaco2(file) if not {room, module} & allowed}

    assert {room_of_jaco2(file) for file in JACO2_FILES} == JACO2_ARROWS.keys()
    assert offenders(JACO2_FILES, upward) == {}


def test_what_commands_the_arm_knows_no_picture_and_no_policy() -> None:
    """The streamer's process imports no camera, no picture, no network client of the policy, and none of the client."""
    files = [file for file in JACO2_FILES if room_of_jaco2(file) in COMMANDS_THE_ARM]

    def strange(file: Path) -> set[str]:
        ours = {name for name in imported(file) if name.startswith("stillframe_client.")}
        of_the_client = {name for name in ours if not name.startswith("stillframe_client.jaco2")}
        return packages(file) & NOT_BESIDE_THE_ARM | of_the_client

    assert offenders(files, strange) == {}


def test_transformers_stay_with_the_models() -> None:
    """The library is an oracle in tests, what the laboratory compares with, and at most a tokenizer under models/."""
    others = [file for file in HOUSE if room_of(file) != "models"]

    assert offenders(others, lambda file: packages(file) & {"transformers"}) == {}


def test_the_hub_is_asked_in_one_place_on_use() -> None:
    """Its library is imported inside functions of models/hub alone: a daemon of a folder starts without it."""
    room = SERVER / "models" / "hub"
    others = [file for file in [*HOUSE, *CLIENT_FILES] if room not in file.parents]

    assert offenders(others, lambda file: packages(file) & {"huggingface_hub"}) == {}
    assert [named(file) for file in room.glob("*.py") if "huggingface_hub" in packages_at_the_top(file)] == []


def packages_at_the_top(file: Path) -> set[str]:
    """What importing a file imports."""
    top = [node for node in tree(file).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = (alias.name if isinstance(node, ast.Import) else str(node.module) for node in top for alias in node.names)
    return {name.split(".")[0] for name in names}


def test_nothing_is_unpickled_and_no_checkpoints_code_is_run() -> None:
    """torch.load only with weights_only=True; no pickle, no remote code."""

    def dangerous(file: Path) -> set[str]:
        calls = [node for node in nodes(file) if isinstance(node, ast.Call)]
        loads = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "torch.load"]
        unsafe = {load for load in loads if "weights_only=True" not in load}
        remote = {"trust_remote_code"} if "trust_remote_code" in file.read_text(encoding="utf-8") else set()
        return packages(file) & {"pickle", "cloudpickle", "dill", "joblib"} | unsafe | remote

    assert offenders([*HOUSE, *LAB_FILES], dangerous) == {}


def test_family_names_stay_at_home() -> None:
    """Code names a family only in its own file, the registry, the dialects, training and configuration."""

    def strange(file: Path) -> set[str]:
        place = str(file.relative_to(SERVER))
        at_home = FAMILY.search(file.stem) or place.startswith(FAMILY_ROOMS)
        return set() if at_home else {word for word in code_words(file) if FAMILY.search(word)}

    assert offenders(HOUSE, strange) == {}


def code_words(file: Path) -> Iterator[str]:
    """Identifiers, imports and strings that the code acts on; prose is free: docstrings, comments, help texts."""
    yield from imported(file)
    for node in nodes(file):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Compare):
            yield from (str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant))


def modules_of(top: str) -> list[str]:
    """A room's modules, or a package's, by their full names; the simulated arms' and programs to start left out."""
    path = {"stillframe": SERVER, "stillframe_client": CLIENT}[top.split(".")[0]]
    folder = path.joinpath(*top.split(".")[1:])
    files = [file for file in folder.rglob("*.py") if not {"sim", "world"} & {*file.relative_to(folder).parts}]
    inside = [file.relative_to(folder).with_suffix("").parts for file in files]
    return [top, *sorted(".".join([top, *parts]) for parts in inside if parts[-1] not in {"__init__", "__main__"})]


@pytest.mark.parametrize(
    ("tops", "others"),
    [
        ([f"stillframe.{room}" for room in WITHOUT_TORCH], []),
        (["stillframe_client"], ["mujoco", "dm_control", "stillframe"]),
    ],
    ids=["stillframe", "stillframe_client"],
)
@pytest.mark.process
def test_it_imports_without_torch(tops: list[str], others: list[str]) -> None:
    """Every module of these rooms imports in a process where torch cannot be; the client's without MuJoCo as well."""
    blocked = ["torch", "transformers", "safetensors", *others]
    script = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for name in {[name for top in tops for name in modules_of(top)]!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_loop_computes_nothing_itself() -> None:
    """engine/step.py is the order of the stages: it imports no tensor maths, not torch nor numpy."""
    assert packages(SERVER / "engine" / "step.py") == {"__future__", "collections", "stillframe"}


def test_every_module_says_what_it_does() -> None:
    """A module begins with a docstring."""
    everything = [*HOUSE, *CLIENT_FILES, *LAB_FILES]

    assert [named(file) for file in everything if not ast.get_docstring(tree(file))] == []


def test_every_test_says_what_must_hold() -> None:
    """Each test function has a docstring."""

    def silent(file: Path) -> set[str]:
        functions = [node for node in outermost(parsed(file)) if node.name.startswith("test_")]
        return {node.name for node in functions if not ast.get_docstring(node)}

    assert offenders(sorted((ROOT / "tests").rglob("test_*.py")), silent) == {}


def outermost(parent: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions that are in no function."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.stmt):
            yield from outermost(node)


def test_no_part_of_the_program_is_a_person() -> None:
    """Code, comments and docstrings say what is meant: a session, a caller, a thread; no nobody, no whoever."""

    def spoken_of(file: Path) -> set[str]:
        return {match.group().lower() for match in PERSONS.finditer(file.read_text(encoding="utf-8"))}

    assert offenders([*HOUSE, *CLIENT_FILES, *LAB_FILES], spoken_of) == {}


def test_no_package_where_names_would_collide() -> None:
    """tests/, server/ and client/ are no packages: `server` and `client` would shadow each other."""
    stray = [*(ROOT / "tests").rglob("__init__.py"), ROOT / "server" / "__init__.py", ROOT / "client" / "__init__.py"]
    stray.append(ROOT / "lab" / "__init__.py")

    assert [named(file) for file in stray if file.exists()] == []


def test_every_room_is_a_package() -> None:
    """Folders of code have an __init__.py, so that the wheels and mypy see them."""
    folders = {file.parent for file in [*HOUSE, *CLIENT_FILES, *LAB_FILES]}

    assert [named(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
