"""YAML and JSON are read as they are written, and no file takes the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinlock_dist.categories.mapping import read_names
from spinlock_dist.config_file import load_config
from spinlock_dist.documents import YAML_BYTES, read_document, read_text
from spinlock_dist.errors import ConfigError
from tests.fuzz import bounded, inputs

BOMB = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n}\n  p: *a{n - 1}\n  q: *a{n - 1}\n  <<: [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        read_text(text, "x.yaml")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["no", "Yes", "1", "1.0", "0123", "1:30", "null", "~", "2024-01-01", "0x1F", "on"])
def test_keys_are_what_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(f"{name}: [a]\n'{name}x': [b]\n")
    assert read_names(str(path)) == {name: ["a"], f"{name}x": ["b"]}
    assert read_document(path)[1][(name,)] == 1


def test_keys_that_differ_are_not_merged() -> None:
    assert read_text("1: a\n1.0: b\n0x1: c\n", "x")[0] == {"1": "a", "1.0": "b", "0x1": "c"}
    assert "line 2: not valid YAML: 'no' is given twice" in refused("no: a\n'no': b\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 0\nseed: 0123\n", 'line 2: .*0123 would be read as 83: write 123 or 83, or "0123" if it is a name'),
        ("seed: 1:30\n", 'line 1: .*1:30 would be read as 90: write 90, or "1:30" if it is a name'),
        ("- -1:30.5\n", "would be read as -90.5"),
        ("seed: 00\n", "00 would be read as 0"),
    ],
)
def test_numbers_of_two_meanings_are_refused_with_their_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_text(text, "x.yaml")


def test_other_numbers_stay() -> None:
    tree, _ = read_text("[0, -0, 7, 1_000, 0x1F, 0.5, -1.5e+3, .inf, '0123', 2024-01-01]", "x")
    assert tree == [0, 0, 7, 1000, 31, 0.5, -1500.0, float("inf"), "0123", "2024-01-01"]


def test_json_is_read_as_json(tmp_path: Path) -> None:
    tree = {"𝜎 spread [m/s]": ["a"], "no": ["b\tc"], "1": ["d"]}
    for name in ("m.json", "m.yaml"):  # by its suffix, or because it is
        (tmp_path / name).write_text(json.dumps(tree, indent="\t"))
        found, _ = read_document(tmp_path / name)
        assert found == tree
    del tree["𝜎 spread [m/s]"]
    (tmp_path / "m.json").write_text(json.dumps(tree, indent="\t"))
    assert read_document(tmp_path / "m.json")[1][("1",)] == 5
    (tmp_path / "c.json").write_text('{\n\t"training": {\n\t\t"epoch": 3\n\t}\n}')
    with pytest.raises(ConfigError, match=r"c\.json, line 3: unknown setting 'training\.epoch'"):
        load_config(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": }', r"line 2: not valid JSON"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": "\\ud83d"}', "half of a letter"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON: a number of"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_is_wrong_ends_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        read_document(tmp_path / "m.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [BOMB, "[" * 100_000, "{a: " * 5000, "a: &x [*x]", "".join(f"k{n}: {n}\n" for n in range(110_000))],
    ids=["bomb", "deep lists", "deep mappings", "a circle", "many keys"],
)
def test_what_would_take_the_machine_is_refused(text: str) -> None:
    assert any(said in refused(text) for said in ("too many", "nested too deeply", "holds itself"))


def test_merges_and_aliases_of_a_config_stay() -> None:
    tree, _ = read_text("base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\nagain: *base\n", "x")
    assert tree == {"base": {"a": 1, "b": 2}, "mine": {"a": 1, "b": 3}, "again": {"a": 1, "b": 2}}


def test_large_files_pipes_and_folders_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(YAML_BYTES + 1)
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, said in (
        (tmp_path / "large.yaml", "more than the 4 MB of any config"),
        (tmp_path / "pipe.yaml", "is a device or a pipe"),
        (tmp_path, "is a folder"),
        (tmp_path / "none.yaml", "no such file"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_document(path)


# ---------------------------------------------------------------- any document

scalars = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text(max_size=8))
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@settings(max_examples=inputs(50), deadline=None)
@given(trees)
@bounded
def test_any_json_is_what_json_says(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    path = tmp_path_factory.mktemp("m") / "m.json"
    path.write_text(json.dumps(tree, indent="\t"))
    assert read_document(path)[0] == tree


words = st.sampled_from(
    [
        "no",
        "yes",
        "0123",
        "1:30",
        "1e3",
        "~",
        "&a x",
        "*a",
        "<<: *a",
        "- b",
        "a: b",
        "'q'",
        '"\\ud83d"',
        "!!int x",
        "?",
        "",
    ]
)


@settings(max_examples=inputs(100), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), words, words), max_size=8))
@bounded
def test_any_yaml_is_read_or_refused_in_a_line(lines: list[tuple[int, str, str]]) -> None:
    text = "\n".join(f"{'  ' * depth}{key}: {value}" for depth, key, value in lines)
    said, tree = "", None
    try:
        tree, _ = read_text(text, "x.yaml")
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said and (said or tree is None or isinstance(tree, str | dict | list))
