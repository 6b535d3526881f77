"""Reads a deployment's YAML strictly: duplicate keys, tags and alias bombs are refused.

Knows YAML; no configuration key. Scalars are those of YAML 1.2: no octals, no sexagesimals, no dates; yes, no, on and
off are words (`Word`), which the reader of a key may take as a truth value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.events import AliasEvent, NodeEvent

from stillframe.errors import ConfigError
from stillframe.files.kinds import mistaken, shown

MOST_BYTES = 256 * 2**10
DEEPEST = 20
MOST_NODES = 20_000  # keys and values, each alias counted as all that it stands for
LONGEST_NUMBER = 32  # characters; what is longer is a word
EXAMPLE = "expected a mapping such as 'checkpoint: checkpoints/jaco-tiny'"

NULL, BOOL, INT, FLOAT, STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
MERGE, MAP, SEQ = (f"tag:yaml.org,2002:{name}" for name in ("merge", "map", "seq"))
PLAIN = (
    (NULL, re.compile(r"(?:~|null|Null|NULL|)$"), "~nN\0"),
    (BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    (INT, re.compile(r"(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+|0o[0-7]+)$"), "-+0123456789"),
    (FLOAT, re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), "-+.0123456789"),
    (FLOAT, re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"), "-+."),
    (MERGE, re.compile(r"<<$"), "<"),
)
SWITCHES = re.compile(r"yes|no|on|off", re.IGNORECASE)


class Word(str):
    """An unquoted yes, no, on or off, as it was written."""

    __slots__ = ()

    @property
    def truth(self) -> bool:
        """Its truth value."""
        return self.lower() in {"yes", "on"}


class NotOurYAML(yaml.YAMLError):
    """Valid YAML that is refused; its text says where and why."""


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, restricted as the module says."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 -- as in the base class
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # of each complete node, aliases expanded

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Build the next node, unless it has a tag, is nested too deep, or is an alias that grows without bound."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise NotOurYAML(f"{_line(event)}: *{shown(event.anchor)} stands inside of what it names")
            return node
        tag = getattr(event, "tag", None)
        if isinstance(event, NodeEvent) and tag is not None:
            problem = f"a tag, {shown(tag)}; expected plain values without !"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
        if self._depth >= DEEPEST:
            raise NotOurYAML(f"{_line(event)}: nested deeper than {DEEPEST} levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None:
            self._measure(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Build a mapping, each of whose keys is a word and stands there once."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise NotOurYAML(f"{_line(key)}: a list or mapping in place of a key; expected a word")
            if key.value in lines:
                line = lines[key.value]
                raise NotOurYAML(
                    f"the key {shown(key.value)!r} stands twice, in line {line} and in line {key.start_mark.line + 1}; "
                    "leave one of them"
                )
            lines[key.value] = key.start_mark.line + 1
        return node

    def _measure(self, node: yaml.Node) -> None:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []
        parts = node.value if isinstance(node, yaml.SequenceNode) else parts
        size = self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in parts)
        if size > MOST_NODES:
            raise NotOurYAML(f"{_line(node)}: with its aliases written out it has more than {MOST_NODES} values")


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping with string keys. Raises ConfigError, in one line, for anything else."""
    try:
        text = _text(file)
        values = _loaded(text)
    except OSError as error:
        raise ConfigError(f"cannot read {shown(file)}: {error.strerror}{_hint(file, error)}") from error
    except NotOurYAML as error:
        raise ConfigError(f"{shown(file)}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = mistaken(file)
        raise ConfigError(f"{shown(file)} is not YAML: " + (f"it {kind}" if kind else _explained(error))) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        kind = mistaken(file)
        raise ConfigError(f"{shown(file)}: " + (f"it {kind}" if kind and values else EXAMPLE))
    _check_keys(file, values, "")
    return values


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise NotOurYAML(f"it has more than {MOST_BYTES} bytes; is it another file?")
    return data.decode("utf-8-sig")


def _loaded(text: str) -> Any:
    loader = StrictLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _explained(error: Exception) -> str:
    """The error in one line, with its place."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        problem = error.problem or error.context or "it cannot be parsed"
        if "'\\t'" in problem:
            problem = "a tab; YAML takes spaces there"
        if "but found another document" in problem:
            problem = "a second document begins here (---); expected one"
        return shown(f"{where}{problem}")
    return shown(str(error).partition("\n")[0])


def _hint(file: Path, error: OSError) -> str:
    """A suggestion for a path that is no file."""
    if isinstance(error, IsADirectoryError):
        return f"; for a checkpoint's folder: stillframe serve --checkpoint {shown(file)}"
    return ""


def _check_keys(file: Path, value: Any, section: str) -> None:
    """Raise ConfigError for a nested key that is no string."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if isinstance(value, dict) and not isinstance(key, str):
            raise ConfigError(f"{shown(file)}: a key of {section!r} is {key!r}; expected a word")
        _check_keys(file, part, f"{section}.{key}".lstrip("."))


def _line(thing: Any) -> str:
    return f"line {thing.start_mark.line + 1}"


def _whole(_loader: StrictLoader, node: yaml.ScalarNode) -> int | str:
    text = str(node.value)
    if len(text) > LONGEST_NUMBER:
        return text
    return int(text.replace("_", ""), {"0x": 16, "0o": 8}.get(text[:2], 10))


def _fraction(_loader: StrictLoader, node: yaml.ScalarNode) -> float | str:
    text = str(node.value)
    if len(text) > LONGEST_NUMBER:
        return text
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _word(_loader: StrictLoader, node: yaml.ScalarNode) -> str:
    text = str(node.value)
    return Word(text) if node.style is None and SWITCHES.fullmatch(text) else text


for _tag, _pattern, _first in PLAIN:
    StrictLoader.add_implicit_resolver(_tag, _pattern, list(_first.replace("\0", "")) + [""] * ("\0" in _first))
for _kind, _make in {
    NULL: yaml.SafeLoader.construct_yaml_null,
    BOOL: yaml.SafeLoader.construct_yaml_bool,
    INT: _whole,
    FLOAT: _fraction,
    STR: _word,
    SEQ: yaml.SafeLoader.construct_yaml_seq,
    MAP: yaml.SafeLoader.construct_yaml_map,
    None: yaml.SafeLoader.construct_undefined,
}.items():
    StrictLoader.add_constructor(_kind, _make)
