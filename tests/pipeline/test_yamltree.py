"""YAML is read strictly, with positions, and never at more cost than its budgets."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import yamltree
from pipeline.errors import DefinitionError
from pipeline.mistakes import WrongDefinition
from pipeline.yamltree import Integer, parse
from tests.pipeline.clock import slowness, spent
from tests.pipeline.definitions import FULL

MOST_SECONDS = 0.25
MOST_BYTES = 64 * 1024 * 1024


def refused(text: str | bytes) -> str:
    with pytest.raises(WrongDefinition) as caught:
        parse(text, "x.yml")
    return str(caught.value)


def message(text: str | bytes) -> str:
    """Return what reading a text complains about, or nothing."""
    try:
        parse(text, "x.yml")
    except DefinitionError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("12:30:45", "12:30:45"),
        ("1_000", "1_000"), ("2024-13-45", "2024-13-45"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("+7", 7), ("-0", 0),
        ("1e3", 1000.0),
        (".5", 0.5), ("5.", 5.0), ("true", True), ("False", False), ("tRUE", "tRUE"), ("~", None), ("null", None),
        ("nULL", "nULL"), ("", None), ("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("!!int '3'", 3),
        ("!!float 3", 3.0), ("-.inf", float("-inf")), ("0b11", "0b11"), ("1.2.3", "1.2.3"), ("-", None), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(written: str, read: object) -> None:
    if written == "-":
        assert parse("- -", "x.yml") == [[None]]
        return
    value = parse(f"a: {written}", "x.yml")["a"]
    assert value == read
    assert isinstance(value, type(read))


def test_a_number_knows_how_it_was_written() -> None:
    tree = parse("[3.10, 010, 1e3, 0x1F, 1234567890123456789012345678901234567890]", "x.yml")
    assert [value.raw for value in tree] == ["3.10", "010", "1e3", "0x1F", "1234567890123456789012345678901234567890"]
    assert isinstance(tree[1], Integer)


def test_a_number_of_thousands_of_digits_stays_text() -> None:
    assert parse("a: " + "9" * 5000, "x.yml")["a"] == "9" * 5000


def test_keys_are_text_even_where_they_look_like_something_else() -> None:
    assert list(parse("on: 1\ntrue: 2\n3.10: 3\nnull: 4", "x.yml")) == ["on", "true", "3.10", "null"]


def test_every_value_knows_where_its_key_and_itself_stand() -> None:
    tree = parse("a: 1\nbc:\n  - x\n  - {d: [e]}\n", "x.yml")
    assert tree.places == {"a": (0, 0, 0, 3), "bc": (1, 0, 2, 2)}
    assert tree["bc"].places == [(2, 4, 2, 4), (3, 4, 3, 4)]
    assert tree["bc"][1].places == {"d": (3, 5, 3, 8)}


def test_merge_keys_take_in_what_is_not_said() -> None:
    tree = parse("base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nall: {<<: [*b, *m], x: 0}", "x.yml")
    assert tree["all"] == {"x": 0, "y": 2, "z": 4}
    assert tree["all"].places["y"] == tree["base"].places["y"]


def test_a_quoted_merge_key_is_a_key() -> None:
    assert parse('{"<<": 1}', "x.yml") == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("# only this", "the file is empty"),
        ("a: 1\na: 2", "x.yml:2:1: the key `a` stands here twice"),
        ("a: 1\n---\nb: 1", "x.yml:2:1: a second document"),
        ("a: !!python/object/apply:os.system ['x']", "the tag `!!python/object/apply:os.system` is not allowed"),
        ("a: !!binary aGk=", "the tag `!!binary`"),
        ("a: !!set {x}", "the tag `!!set`"),
        ("a: ! x", "the tag `!`"),
        ("a: !mine x", "the tag `!mine`"),
        ("a: !!int x", "the tag `!!int`"),
        ("%TAG ! tag:example,2000:\n---\na: !x y", "the tag `tag:example,2000:x`"),
        ("? [a]\n: b", "a key is a plain text"),
        ("{&k a: b}", "a key is a plain text"),
        ("a: &a x\n*a : b", "an alias can not be a key"),
        ("?\n: b", "a key is missing"),
        ("a: &a [*a]", "stands inside its own anchor"),
        ("a: *nothing", "there is no anchor `nothing` above"),
        ("a:\n\t- b", "indented with spaces, not with tabs"),
        ("a: b: c", "not YAML: mapping values are not allowed"),
        ('a: "x', "not YAML: found unexpected end of stream"),
        ("a: \0", "control characters are not allowed"),
        ("a: x\u2028y", "x.yml:1:5: this character is a line break in some YAML readers only"),
        ("<<: 3", "`<<` takes in a mapping"),
        ("<<: [1]", "`<<` takes in a mapping"),
        (b"a: \xff", "x.yml:1:4: the file is not UTF-8"),
        (b"\xff\xfea\0", "the file is not UTF-8"),
    ],
)
def test_what_is_not_strict_is_refused_with_its_place(text: str | bytes, says: str) -> None:
    assert says in refused(text)


def test_several_mistakes_are_told_at_once() -> None:
    told = refused("a: 1\na: 2\nb: 1\nb: 2\nc: !x 1")
    assert [line.partition(": ")[0] for line in told.splitlines() if line.startswith("x.yml")] == [
        "x.yml:2:1",
        "x.yml:4:1",
        "x.yml:5:4",
    ]


def test_the_caret_stands_below_the_mistake_also_after_wide_characters() -> None:
    told = refused("日本: !x 1").splitlines()
    assert told[1] == "  1 | 日本: !x 1"
    assert told[2].index("^") - 6 == 4 + 2  # two characters of two columns, then a colon and a space


def test_nothing_of_a_file_can_move_the_terminal() -> None:
    assert "\x9b" not in refused("a: !x '\x9b31m'")
    assert "\x1b" not in refused("a: !x 'e\x1b[31m'")


# --- bombs ----------------------------------------------------------------------------------------------------------


def merges(levels: int, width: int) -> str:
    text = "a0: &a0 {x: 1, y: 2}\n"
    for level in range(1, levels + 1):
        text += f"a{level}: &a{level} {{<<: [{','.join([f'*a{level - 1}'] * width)}], k{level}: 1}}\n"
    return text


def laughs(levels: int, width: int) -> str:
    text = "a0: &a0 [lol]\n"
    for level in range(1, levels + 1):
        text += f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * width)}]\n"
    return text


BOMBS = {
    **{f"brackets {depth}": "[" * depth for depth in (41, 1000, 50_000, 10**6)},
    **{f"braces {depth}": "{a: " * depth for depth in (41, 10**5)},
    "dashes": "- " * 60_000,
    "questions": "? " * 60_000,
    "lines": "[\n" * 60_000,
    "indents": "".join(" " * depth + "a:\n" for depth in range(400)),
    "laughs": laughs(9, 9),
    "wide laughs": laughs(3, 40),
    "many aliases": "a: &a x\nb: [" + ",".join(["*a"] * 101) + "]",
    "flat list": "[" + "a," * 60_000 + "]",
    "flat mapping": "".join(f"k{number}: v\n" for number in range(50_000)),
    "long line": "a: " + "x" * 200_000,
    "huge": "a: 1\n" * 10**6,
    **{f"merges {levels} by {width}": merges(levels, width) for levels in (5, 7, 12) for width in (7, 20)},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once_and_in_little_memory(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert spent(lambda: refused(BOMBS[name])) < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MOST_BYTES


@pytest.mark.parametrize("name", ["brackets 41", "brackets 50000", "dashes", "indents", "laughs", "merges 7 by 7"])
def test_a_bomb_is_refused_where_pyyaml_has_no_libyaml(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml.cyaml", None)  # what an installation without it looks like
    assert spent(lambda: refused(BOMBS[name])) < 1


def test_values_and_places_are_the_same_where_pyyaml_has_no_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = parse(FULL, "x.yml")
    monkeypatch.setitem(sys.modules, "yaml.cyaml", None)
    slow = parse(FULL, "x.yml")
    assert slow == fast
    assert slow.places == fast.places
    assert slow["stages"]["unit"].places == fast["stages"]["unit"].places


def test_events_are_never_drawn_beyond_the_depth_that_is_allowed() -> None:
    composer = yamltree._Composer("[" * 10**5, "x.yml", yamltree.MAX_NODES)
    with pytest.raises(yamltree._Refused):
        composer.document()
    assert composer.depth == yamltree.MAX_DEPTH + 1


@given(levels=st.integers(1, 12), width=st.integers(2, 20), kind=st.sampled_from([merges, laughs]))
@settings(derandomize=True, max_examples=40, deadline=None)
def test_any_tower_of_aliases_is_read_or_refused_in_time(levels: int, width: int, kind: object) -> None:
    text = kind(levels, width)  # type: ignore[operator]
    assert spent(lambda: message(text), tries=1) < MOST_SECONDS


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#,?\n\t <=~01.\\\0\u2028é"), max_size=200))
@settings(derandomize=True, max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_but_never_ends_the_process(text: str) -> None:
    assert re.match(r"$|x\.yml:\d+:\d+: ", message(text))


@given(st.binary(max_size=120))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert re.match(r"$|x\.yml:\d+:\d+: ", message(data))


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    from pipeline.loading import load

    os.mkfifo(tmp_path / "pipe.yml")
    with pytest.raises(DefinitionError, match="not a regular file"):
        load(tmp_path / "pipe.yml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    from pipeline.loading import load

    with pytest.raises(DefinitionError, match="not a regular file"):
        load(tmp_path)


def test_a_link_that_leads_out_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    from pipeline.loading import load

    (tmp_path / "repo").mkdir()
    (tmp_path / "secret.yml").write_text("version: 1\n")
    (tmp_path / "repo" / "pipe.yml").symlink_to("../secret.yml")
    with pytest.raises(DefinitionError, match="leads out of"):
        load(tmp_path / "repo" / "pipe.yml")


def test_a_link_inside_the_repository_is_followed(tmp_path: Path) -> None:
    from pipeline.loading import load

    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "real.yml").write_text("version: 1\nname: x\nstages: {a: {image: b:1, run: c}}\n")
    (tmp_path / "pipe.yml").symlink_to("ci/real.yml")
    assert load(tmp_path / "pipe.yml").definition.name == "x"


# What the system counts for a child begins with what its parent held; the high-water mark of its own memory does not.
_JUDGED = """
import re, resource, sys
from pathlib import Path
from pipeline.__main__ import main
sys.argv = ["pipe", "lint", sys.argv[1]]
code = main()
used = resource.getrusage(resource.RUSAGE_SELF)
high = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(code, used.ru_utime + used.ru_stime, int(high) * 1024, file=sys.stderr)
"""


@pytest.mark.parametrize("name", ["brackets 50000", "laughs", "merges 7 by 7", "flat mapping", "huge"])
def test_the_command_itself_refuses_a_bomb_in_a_quarter_of_a_second_and_64_mib(tmp_path: Path, name: str) -> None:
    (tmp_path / "pipe.yml").write_text(BOMBS[name])
    command = [sys.executable, "-c", _JUDGED, str(tmp_path / "pipe.yml")]
    best = []
    for _ in range(3):
        before = slowness()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        code, seconds, high = done.stderr.split()
        assert code == "2"
        assert int(high) < MOST_BYTES
        best.append(float(seconds) / max(before, slowness()))
    assert min(best) < MOST_SECONDS
