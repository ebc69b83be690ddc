"""`${{ }}` is a dotted path in typed fields; `if` is CEL, checked when it is read, bounded when it is evaluated."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pipeline.errors import DefinitionError
from pipeline.expressions import bind_inputs, condition_flaw, condition_names, evaluate, fill, references, typed

CONTEXT = {
    "git": {"sha": "abc", "tag": ""},
    "matrix": {"os": "x"},
    "inputs": {"on": True, "n": 3},
    "stages": {"build-it": {"image": "sha256:1", "outputs": {"V": "7"}}},
}


def test_typed_fields_are_filled_and_nothing_else() -> None:
    spec = {
        "image": "${{ stages.build-it.image }}",
        "env": {"V": "v${{stages.build-it.outputs.V}}-${{ matrix.os }}", "ON": "${{ inputs.on }}${{ inputs.n }}"},
        "run": ["echo ${{ git.sha }}"],
        "services": {"db": {"image": "x:${{ git.sha }}", "ready": {"run": "${{ git.sha }}"}}},
        "timeout": 60.0,
    }
    assert fill(spec, CONTEXT) == {
        "image": "sha256:1",
        "env": {"V": "v7-x", "ON": "true3"},
        "run": ["echo ${{ git.sha }}"],
        "services": {"db": {"image": "x:abc", "ready": {"run": "${{ git.sha }}"}}},
        "timeout": 60.0,
    }


def test_what_is_filled_in_is_not_read_again() -> None:
    context = {"git": {"message": "${{ git.sha }}", "sha": "abc"}}
    assert fill({"env": {"M": "${{ git.message }}"}}, context)["env"]["M"] == "${{ git.sha }}"


def test_an_empty_tag_is_dropped_and_named() -> None:
    notes: list[str] = []
    push = {"image": "x", "to": "r/a", "tags": ["${{ git.tag }}", "v${{ git.sha }}"]}
    assert fill({"push": push}, CONTEXT, notes)["push"]["tags"] == ["vabc"]
    assert notes == ["the tag ${{ git.tag }} is empty and was dropped"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${{ stages.gone.image }}", "the stage `gone` was skipped or did not succeed"),
        ("${{ git.nope }}", "has no value in this run"),
        ("${{ git }}", "is not a text"),
        ("${{ git.sha.x }}", "has no value in this run"),
        ("${{ 1 + 1 }}", "not a dotted path"),
        ("${{ git.sha", "not a dotted path"),
    ],
)
def test_what_has_no_value_is_an_error_and_never_empty(text: str, says: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        fill({"image": text}, CONTEXT)
    assert says in str(caught.value)


def test_references_are_found_well_formed_or_not() -> None:
    found = list(references("a ${{ git.sha }}${{a-b.c_d}} ${{ x y }} $${{ q"))
    assert [reference.path for reference in found] == [("git", "sha"), ("a-b", "c_d"), (), ()]
    assert [reference.start for reference in found] == [2, 16, 29, 41]


@pytest.mark.parametrize(
    ("path", "is_typed"),
    [
        (("image",), True),
        (("env", "A"), True),
        (("services", "db", "env", "A"), True),
        (("push", "tags", 0), True),
        (("run",), False),
        (("run", 0), False),
        (("services", "db", "ready", "run"), False),
        (("when", 0, "branch"), False),
        (("secrets", 0), False),
        (("env",), False),
    ],
)
def test_only_the_fields_of_the_list_are_typed(path: tuple[str | int, ...], is_typed: bool) -> None:
    assert typed(path) == is_typed


def test_included_inputs_become_text_in_fields_and_literals_in_conditions() -> None:
    spec = {
        "image": "a:${{ inputs.v }}${{ git.sha }}",
        "run": ["${{ inputs.v }}"],
        "when": [{"if": "inputs.v == 'inputs.v' || inputs.on // inputs.v"}],
    }
    assert bind_inputs(spec, {"v": "'\"\\", "on": False}) == {
        "image": "a:'\"\\${{ git.sha }}",
        "run": ["${{ inputs.v }}"],
        "when": [{"if": "\"'\\\"\\\\\" == 'inputs.v' || false // inputs.v"}],
    }


def test_a_bound_text_can_not_leave_its_quotes() -> None:
    evil = "x' || true || '"
    bound = bind_inputs({"when": [{"if": "inputs.v == 'y'"}]}, {"v": evil})["when"][0]["if"]
    assert evaluate(bound, {}) is False


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("brnch == 'x'", 1, 1, "undeclared reference to 'brnch'"),
        ("branch ==", 1, 10, "something is missing at the end"),
        ("event == 'push' &&\n  branch == 3", 2, 10, "no matching overload"),
        ("1 + 1", 1, 1, "this is not true or false, but int"),
        ("'text'", 1, 1, "not true or false"),
        ("(" * 60 + "true" + ")" * 60, 1, 1, "nested too deep"),
        ("'" + "x" * 3000 + "' == branch", 1, 1, "at most 2000 characters"),
        ("${{ inputs.x }}", 1, 1, "does not stand in `if`"),
        ("", 1, 1, "something is missing"),
        ("status == 'failed'", 1, 1, "undeclared reference"),
    ],
)
def test_a_wrong_condition_is_found_without_evaluating_it(text: str, line: int, column: int, says: str) -> None:
    flaw = condition_flaw(text)
    assert flaw is not None
    assert (flaw.line, flaw.column) == (line, column)
    assert says in flaw.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("branch == 'main' && event in ['push', 'tag']", True),
        ("inputs.n > 2", True),
        ("inputs.n == 3.0", True),
        ("has(inputs.nope) || tag == ''", True),
        ("git.message.matches('^fix')", False),
        ("size(paths) == 2 && paths.all(p, p.startsWith('a/'))", True),
    ],
)
def test_a_condition_is_evaluated(text: str, value: bool) -> None:
    variables = {
        "event": "push",
        "branch": "main",
        "paths": ["a/1", "a/2"],
        "inputs": {"n": 3},
        "git": {"message": "x"},
    }
    assert condition_flaw(text) is None
    assert evaluate(text, variables) is value


@pytest.mark.parametrize("text", ["inputs.nope == 1", "inputs.n", "1 / inputs.zero == 1"])
def test_what_can_not_be_evaluated_is_an_error_and_not_false(text: str) -> None:
    with pytest.raises(DefinitionError):
        evaluate(text, {"inputs": {"n": 3, "zero": 0}})


def test_a_condition_that_would_take_forever_is_stopped() -> None:
    ten = "[1,2,3,4,5,6,7,8,9,10]"
    text = "true"
    for name in "abcdefgh":
        text = f"{ten}.all({name}, {text})"
    start = time.process_time()
    with pytest.raises(DefinitionError, match="can not be evaluated"):
        evaluate(text, {})
    assert time.process_time() - start < 1


def test_names_in_quotes_and_comments_are_no_names() -> None:
    text = "inputs.a == 'inputs.b' && git.sha != \"matrix.c\" // git.d\n && matrix.e == 'x' && x.inputs.f"
    assert [(scope, key) for scope, key, _ in condition_names(text)] == [
        ("inputs", "a"),
        ("git", "sha"),
        ("matrix", "e"),
    ]


def test_the_library_of_cel_is_loaded_only_for_a_condition() -> None:
    code = (
        "import sys; from pipeline.loading import loads; "
        "loads('version: 1\\nname: x\\nstages: {a: {image: b:1, run: c}}'); print('cel_expr_python' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
