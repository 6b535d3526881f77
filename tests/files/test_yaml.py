from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillframe.errors import ConfigError
from stillframe.files.yaml import DEEPEST, MOST_BYTES, Word, read_yaml


def written(folder: Path, text: str | bytes) -> Path:
    """A YAML with this text."""
    file = folder / "daemon.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refused(file: Path) -> str:
    """What the error says: one line, and not a long one."""
    with pytest.raises(ConfigError) as caught:
        read_yaml(file)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    return said


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("8000", 8000),
        ("-3", -3),
        ("0", 0),
        ("4_000", 4000),
        ("0x1F90", 8080),
        ("0o17", 15),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("1.5E3", 1500.0),
        ("-.inf", -float("inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("010000", "010000"),
        ("08", "08"),
        ("2:30", "2:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("2026-11-29", "2026-11-29"),
        ("2026-11-29 05:00:00", "2026-11-29 05:00:00"),
        ("0b11", "0b11"),
        ("=", "="),
        ("9" * 5000, "9" * 5000),
        ("1." + "9" * 5000, "1." + "9" * 5000),
        ("'8000'", "8000"),
        ("~/models/x", "~/models/x"),
    ],
)
def test_a_plain_value_is_what_a_person_means(tmp_path: Path, plain: str, value: object) -> None:
    """Numbers are decimal unless they say otherwise; what is no number is a word."""
    read = read_yaml(written(tmp_path, f"key: {plain}\n"))["key"]

    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("plain", ["yes", "No", "ON", "off"])
def test_yes_and_no_are_words(tmp_path: Path, plain: str) -> None:
    """As they were written; quoted ones are words like all others."""
    read = read_yaml(written(tmp_path, f"key: {plain}\nquoted: '{plain}'\n"))

    assert read == {"key": plain, "quoted": plain}
    assert [type(value) for value in read.values()] == [Word, str]
    assert read["key"].truth == (plain.lower() in {"yes", "on"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' stands twice, in line 1 and in line 3; leave one of them"),
        ("a: {b: 1,\n  'b': 2}\n", "the key 'b' stands twice, in line 1 and in line 2"),
        ("a:\n  - x: 1\n    x: 1\n", "the key 'x' stands twice, in line 2 and in line 3"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "the key '<<' stands twice, in line 3 and in line 4"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """In every mapping, however it is quoted, equal or not."""
    file = written(tmp_path, text)

    assert said in refused(file)


def test_aliases_and_merges_are_read(tmp_path: Path) -> None:
    """What stands beside a merge wins over it, and is no key twice."""
    text = "base: &base {a: 1, b: 2}\nsame: *base\nmore:\n  <<: *base\n  b: 3\nboth: {<<: [*base, {c: 4}]}\n"

    assert read_yaml(written(tmp_path, text)) == {
        "base": {"a": 1, "b": 2},
        "same": {"a": 1, "b": 2},
        "more": {"a": 1, "b": 3},
        "both": {"a": 1, "b": 2, "c": 4},
    }


def bomb(link: str) -> str:
    """Five levels, each of nine aliases of the one before: 59049 values, and nine times as many with each more."""
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{n}: &a{n} " + link.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 6)]
    return "\n".join(levels)


@pytest.mark.parametrize("link", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_do_not_grow_without_bound(tmp_path: Path, link: str) -> None:
    """A few hundred bytes that would be gigabytes: lists of lists, and merges of merges."""
    assert "with its aliases written out it has more than 20000 values" in refused(written(tmp_path, bomb(link)))


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}", "&a a: *a\nb: &b\n  <<: *b\n"])
def test_an_alias_inside_of_what_it_names_is_refused(tmp_path: Path, text: str) -> None:
    """It has no end."""
    file = written(tmp_path, text)

    assert "stands inside of what it names" in refused(file)


@pytest.mark.parametrize("levels", [DEEPEST, 3000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_a_document_is_not_nested_for_ever(tmp_path: Path, levels: int, pair: str) -> None:
    """Neither beyond what Python would recurse into nor just below."""
    opening = "[" if pair == "[]" else "{a: "

    assert f"line 1: nested deeper than {DEEPEST} levels" in refused(written(tmp_path, f"a: {opening * levels}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: !!python/object/apply:os.getcwd []",
            "is not YAML: line 1, column 4: a tag, tag:yaml.org,2002:python/object",
        ),
        ("a: 1\nb: !!binary aGk=", "is not YAML: line 2, column 4: a tag, tag:yaml.org,2002:binary"),
        ("a: !!int '010'", "a tag, tag:yaml.org,2002:int; expected plain values without !"),
        ("a: !!set {b}", "a tag, tag:yaml.org,2002:set"),
        ("a: !secret b", "a tag, !secret"),
        ("a: 1\n---\nb: 2\n", "is not YAML: line 2, column 1: a second document begins here (---); expected one"),
        ("a:\n\tb: 1\n", "is not YAML: line 2, column 1: a tab; YAML takes spaces there"),
        ("a: [", "is not YAML: line 1, column 5: "),
        ("a: b: c", "is not YAML: line 1, column 5: mapping values are not allowed here"),
        ("a: *b", "is not YAML: line 1, column 4: found undefined alias 'b'"),
        ("? [a]\n: b", "line 1: a list or mapping in place of a key; expected a word"),
        ("a: \x01", "is not YAML: "),
        ("a: 1".encode("utf-16"), "is not YAML: it is text in UTF-16: save it in UTF-8"),
        (b"a: \xff", "is not YAML: 'utf-8' codec can't decode byte 0xff"),
        ("<!DOCTYPE html>\n<html>\n<body>", "it is a web page (HTML)"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "it is a Git LFS pointer"),
        (bytes(100), "is not YAML: it begins with zeros"),
        (b"#" * (MOST_BYTES + 1), f"it has more than {MOST_BYTES} bytes; is it another file?"),
    ],
)
def test_what_is_not_read_is_told_with_its_place(tmp_path: Path, text: str | bytes, said: str) -> None:
    """Line, column, and what is wrong there; the file's kind where it is something else."""
    file = written(tmp_path, text)
    told = refused(file)

    assert told.startswith(str(file))
    assert said in told


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        (b"--- # one document\na: 1\n...\n", {"a": 1}),
        (b"%YAML 1.2\n---\na: 010\n", {"a": "010"}),
        (b'{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
    ],
)
def test_what_editors_write_is_read(tmp_path: Path, text: bytes, value: Any) -> None:
    """A byte order mark, ends of lines, markers of a document, JSON."""
    assert read_yaml(written(tmp_path, text)) == value


def test_a_name_too_long_for_a_file_is_one_line(tmp_path: Path) -> None:
    """Cut in the middle."""
    assert refused(tmp_path / ("x" * 5000)).endswith(": File name too long")


def test_a_folder_is_probably_a_checkpoint(tmp_path: Path) -> None:
    """`stillframe serve FOLDER` lacks a word."""
    assert refused(tmp_path) == (
        f"cannot read {tmp_path}: Is a directory; for a checkpoint's folder: stillframe serve --checkpoint {tmp_path}"
    )
