"""A definition is read whole or refused with all its mistakes, each where it stands and with what was meant."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checks.values import TAKEN
from pipeline.definition import Definition, Stage, as_data
from pipeline.errors import DefinitionError
from pipeline.loading import load, load_environments, loads, restore
from pipeline.mistakes import MOST, SHOWN, WrongDefinition
from tests.pipeline.clock import spent
from tests.pipeline.definitions import ENVIRONMENTS, FULL, mistakes, read, small, told

RUN = "    image: x:1\n    run: y\n"


def test_the_full_definition_is_right() -> None:
    definition = loads(FULL).definition
    assert list(definition.stages) == ["runtime_image", "test_image", "lint", "unit", "tell", "push", "test", "release"]
    assert definition.env["LEVEL"] == "3.10"
    assert definition.stages["unit"].services["db"].ready.timeout == 60.0  # type: ignore[union-attr]
    assert definition.app is not None
    assert definition.app.processes["web"].health.http == "/healthz"


def test_what_is_saved_loads_as_the_same_definition() -> None:
    definition = loads(FULL).definition
    saved = json.loads(json.dumps(as_data(definition)))
    assert restore(saved).definition == definition
    assert as_data(restore(saved).definition) == saved


def test_every_stage_of_what_is_saved_loads_as_the_same_stage() -> None:
    definition = loads(FULL).definition
    for name, spec in json.loads(json.dumps(as_data(definition)))["stages"].items():
        assert Stage.model_validate(spec) == definition.stages[name]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
version: 1
name: Shop
on:
  pussh: {}
  schedule: [{cron: "0 25 * * *"}]
defaults: {timeout: 15}
stages:
  build:
    build: {context: ../x}
  unit:
    need: [build]
    image: "${{ stages.build.imag }}"
    matrix: {path: [a]}
    run: |
      echo ${{ git.sha }}
  e2e:
    needs: [unti]
    image: x:1
    run: x
    when: [{if: "brnch == 'x'"}, {event: psh}]
    allow_failure: yes
app:
  processes: {web: {image: psh, port: 80000}}
"""
    assert told(text) == [
        "2:7 `Shop` can not be a name (names are lower-case letters, digits, - and _, and begin with a letter "
        "(at most 63))",
        "4:3 unknown key `pussh` (did you mean `push`?)",
        "5:21 `25` can not be the hour (0-23) (minute hour day month weekday, like 0 3 * * 1-5)",
        "6:21 a duration is written with its unit, like 90s, 15m or 1h30m",
        "9:22 `../x` leads out of the workspace (paths are relative to the workspace)",
        "11:5 unknown key `need` (did you mean `needs`?)",
        "12:13 `stages.build.imag` names nothing (a stage has image, digest and outputs.NAME)",
        "13:14 $PATH can not be set by an axis (programs and shells obey it; choose another name)",
        "15:12 `${{ }}` does not stand in `run` (use $VAR: env, inputs and matrix are variables there)",
        "17:13 there is no stage `unti` (did you mean `unit`?)",
        "20:18 `if`: undeclared reference to 'brnch' (conditions are CEL, like branch == 'main'; names: event branch "
        "tag paths inputs matrix git)",
        "20:42 `event` is `psh`; it can be push, pull_request, tag, schedule, manual (did you mean `push`?)",
        "21:20 `allow_failure` must be true or false, and is a text (write true)",
        "23:21 no stage `psh` pushes an image for the process `web` (name a stage with `push`, or an image by its "
        "digest)",
        "23:39 `port` must be at most 65535",
    ]


def test_a_mistake_is_shown_with_its_line_and_a_caret() -> None:
    with pytest.raises(WrongDefinition) as caught:
        loads("version: 1\nname: x\nstages:\n  a:\n    image: x:1\n    rnu: y\n", "ci/pipe.yml")
    assert caught.value.message.splitlines() == [
        "ci/pipe.yml:6:5: unknown key `rnu`",
        "  6 |     rnu: y",
        "    |     ^^^ did you mean `run`?",
    ]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("  a:\n    run: x\n", ["4:3 a stage with `run` needs an `image` to run in"]),
        ("  a: {run: x, image: y, build: {}}\n", ["4:3 a stage has exactly one of"]),
        ("  a:\n    build: {}\n    services: {}\n", ["4:3 `services` belongs to a stage with `run`"]),
        ("  a: []\n", ["`a` must be a mapping, and is a list"]),
        ("  a:\n", ["`a` must be a mapping, and is nothing (give it a value, or leave the key out)"]),
        ("  A1:\n" + RUN, ["4:3 `A1` can not be a name"]),
        (
            "  a:\n    image: 3.10\n    run: y\n",
            ['5:12 `image` must be a text, and is a number (write "3.10" in quotes)'],
        ),
        ("  a:\n    image: x:1\n    run: [y, 3]\n", ["`run[1]` must be a text, and is a number"]),
        ("  a:\n    image: x:1\n    run: []\n", ["6:5 `run` has no command"]),
        ("  a:\n    image: a b\n    run: y\n", ["5:12 `a b` is not a reference of an image"]),
        ("  a:\n    privileged: true\n" + RUN, ["5:5 unknown key `privileged`"]),
        ("  a:\n    volumes: [/:/host]\n" + RUN, ["5:5 unknown key `volumes`"]),
        ("  a:\n    network: host\n" + RUN, ["5:14 `network` is `host`; it can be default, none"]),
        ("  a:\n    timeout: 15\n" + RUN, ["5:14 a duration is written with its unit"]),
        ("  a:\n    timeout: 15.5\n" + RUN, ["5:14 a duration is written with its unit"]),
        ("  a:\n    resources: {memory: lots}\n" + RUN, ["5:25 a size is written like 512m or 2GiB"]),
        ("  a:\n    resources: {cpus: .inf}\n" + RUN, ["`cpus` must be a finite number"]),
        ("  a:\n    retry: {max: 11}\n" + RUN, ["5:18 `max` must be at most 10"]),
        ("  a:\n    retry: {max: 1, on: [faild]}\n" + RUN, ["did you mean `failed`?"]),
        ("  a:\n    secrets: [1x]\n" + RUN, ["`1x` can not be a name"]),
        ("  a:\n    secrets: [LD_PRELOAD]\n" + RUN, ["5:15 $LD_PRELOAD can not be a secret"]),
        ("  a:\n    outputs: [PATH]\n" + RUN, ["5:15 $PATH can not be set by an output"]),
        ("  a:\n    env: {PIPE_RUN: x}\n" + RUN, ["5:11 $PIPE_RUN: names that begin with PIPE_ are ours"]),
        ("  a:\n    env: {A-B: x}\n" + RUN, ["5:11 `A-B` can not be a name"]),
        ("  a:\n    env: {A: }\n" + RUN, ["`A` must be a text, and is nothing"]),
        ("  a:\n    env: {A: [1]}\n" + RUN, ["`A` must be a text, and is a list"]),
        ("  a:\n    workdir: ../..\n" + RUN, ["5:14 `../..` leads out of the workspace"]),
        ("  a:\n    workdir: /etc\n" + RUN, ["5:14 `/etc` leads out of the workspace"]),
        ("  a:\n    artifacts: {paths: [/etc/shadow]}\n" + RUN, ["5:25 `/etc/shadow` leads out of the workspace"]),
        ("  a:\n    reports: {junit: ../*.xml}\n" + RUN, ["leads out of the workspace"]),
        ("  a:\n    services: {db: {image: x:1, ready: {}}}\n" + RUN, ["`ready` has exactly one of"]),
        ("  a:\n    needs: [a]\n" + RUN, ["5:13 the stage `a` needs itself"]),
        ("  a:\n    needs: b\n" + RUN, ["5:12 there is no stage `b`"]),
        ("  a:\n" + RUN + "  b:\n    needs: [a, a]\n" + RUN, ["8:16 `a` is needed twice"]),
        ("  a:\n    push: {image: x, to: 'r/a:1'}\n", ["`to` names a repository without a tag (write tags: [1])"]),
        ("  a:\n    push: {image: x, to: 'https://r/a'}\n", ["`https://r/a` is not a repository"]),
        ("  a:\n    push: {image: x, to: r/a, tags: [a b]}\n", ["`a b` can not be a tag"]),
        ("  a:\n    promote: {environment: t}\n", ["5:5 a stage with `promote` needs `app`"]),
        ("  a:\n    matrix: {}\n" + RUN, ["5:5 the matrix has no combination"]),
        ("  a:\n    matrix: {x: []}\n" + RUN, ["the axis `x` has no values"]),
        ("  a:\n    matrix: {x: [1, 1]}\n" + RUN, ["the axis `x` has a value twice"]),
        ("  a:\n    matrix: {X: [1]}\n" + RUN, ["`X` can not be the name of an axis"]),
        ("  a:\n    matrix: {x: [1], exclude: [{y: 1}]}\n" + RUN, ["there is no axis `y`"]),
        ("  a:\n    matrix: {ld_preload: [x]}\n" + RUN, ["$LD_PRELOAD can not be set by an axis"]),
        ("  a:\n    matrix: {include: [{bash_env: x}]}\n" + RUN, ["$BASH_ENV can not be set by an axis"]),
    ],
)
def test_a_wrong_stage_is_refused_with_its_place(stages: str, says: list[str]) -> None:
    found = told(small(stages))
    assert len(found) == len(says)
    for line, wanted in zip(found, says, strict=True):
        assert wanted in line


def test_a_matrix_of_a_million_is_refused_without_being_made() -> None:
    values = ", ".join(map(str, range(100)))
    text = small(f"  a:\n    matrix: {{x: [{values}], y: [{values}], z: [{values}]}}\n" + RUN)
    assert told(text) == ["5:5 the matrix has 1000000 combinations, 256 are allowed"]


def test_circles_are_told_with_their_way() -> None:
    text = small("".join(f"  {a}:\n    needs: [{b}]\n{RUN}" for a, b in ("ab", "bc", "ca", "de", "ed")))
    assert told(text) == [
        "5:13 stages need each other in a circle: a -> b -> c -> a",
        "17:13 stages need each other in a circle: d -> e -> d",
    ]


def test_needs_left_out_is_the_stage_before_as_an_optional_need() -> None:
    stages = read(f"  a:\n{RUN}  b:\n{RUN}  c:\n    needs: []\n{RUN}").definition.stages
    assert [[(n.stage, n.optional) for n in s.needs or ()] for s in stages.values()] == [[], [("a", True)], []]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("git.sha", ""),
        ("git.sah", "`git.sah` names nothing (did you mean `git.sha`?)"),
        ("run.number", ""),
        ("inputs.e2e", "`inputs.e2e` names nothing (no inputs are declared)"),
        ("matrix.os", ""),
        ("matrix.oss", "did you mean `matrix.os`?"),
        ("stages.img.image", ""),
        ("stages.img.digest", "only a `push` has a digest"),
        ("stages.imgs.image", "there is no stage `imgs` (did you mean `stages.img.image`?)"),
        ("stages.other.image", "`a` does not need the stage `other`, so nothing is known of it (add other to `needs`)"),
        ("stages.many.outputs.X", "the stage `many` has a matrix"),
        ("stages.out.outputs.VERSION", ""),
        ("stages.out.outputs.VERSIN", "has no output `VERSIN` (did you mean `VERSION`?)"),
        ("stages.out.image", "the stage `out` makes no image"),
        ("env.HOME", "`env.HOME` names nothing"),
        ("git.sha == 'x'", "is not a dotted path"),
        ("", "is not a dotted path"),
    ],
)
def test_a_reference_names_what_is_known_and_within_reach(reference: str, says: str) -> None:
    text = small(
        f"  img: {{build: {{}}}}\n  out:\n    needs: []\n    outputs: [VERSION]\n{RUN}"
        f"  many:\n    needs: []\n    matrix: {{x: [1, 2]}}\n    outputs: [X]\n{RUN}"
        f"  other:\n    needs: []\n    build: {{}}\n"
        f"  a:\n    needs: [img, out, many]\n    matrix: {{os: [x]}}\n    image: x:1\n    run: y\n"
        f'    env: {{A: "${{{{ {reference} }}}}"}}\n'
    )
    found = told(text)
    assert len(found) == bool(says), found
    assert all(says in line for line in found), found


def test_an_unclosed_reference_is_told() -> None:
    assert "is not a dotted path" in told(small('  a:\n    image: "x:${{ git.sha"\n    run: y\n'))[0]


def test_a_condition_over_several_lines_is_told_where_it_is_wrong() -> None:
    when = "    when:\n      - if: >-\n          event == 'push' &&\n          branch == 3\n"
    assert [line.partition(" ")[0] for line in told(small("  a:\n" + when + RUN))] == ["8:18"]


@pytest.mark.parametrize("text", ["inputs.nope == 1", "git.nope == 'x'", "matrix.nope == 'x'", "1 + 1", "branch =="])
def test_a_wrong_condition_is_a_mistake_of_the_file(text: str) -> None:
    assert len(told(small(f'  a:\n    when: {{if: "{text}"}}\n{RUN}'))) == 1


def test_a_promotion_takes_only_what_a_stage_it_needs_has_put_live() -> None:
    text = FULL.replace("from: test", "from: tset")
    assert [m.message for m in mistakes(text)] == ["no stage that `release` needs promotes to `tset`"]
    text = FULL.replace("    needs: [push]\n    promote", "    needs: [unit]\n    promote")
    assert "`test` promotes the image of `push`, but does not need it" in [m.message for m in mistakes(text)]


def test_accessories_never_mount_the_host() -> None:
    text = FULL.replace("data:/var/lib", "/var/run/docker.sock:/var/lib")
    assert "is not `name:/path`" in told(text)[0]


def test_thousands_of_mistakes_are_counted_and_the_first_are_shown() -> None:
    text = small("  a:\n" + RUN) + "".join(f"x{number}: 1\n" for number in range(5000))
    with pytest.raises(WrongDefinition) as caught:
        loads(text)
    assert caught.value.message.endswith(f"and {MOST - SHOWN} or more")


STAGE = "  a:\n    image: x:1\n    run: y\n"
FLOODS = {
    "unknown keys": small(STAGE) + "".join(f"x{n}: 1\n" for n in range(12_000)),
    "unknown keys of stages": small("".join(f"  s{n}: {{image: b, rnu: c}}\n" for n in range(3500))),
    "unknown needs": small(STAGE + f"    needs: [{','.join(f'n{n}' for n in range(9000))}]\n"),
    "unknown references": small(STAGE + '    env: {A: "' + "${{ git.sah }}" * 8000 + '"}\n'),
    "references in commands": small("  a:\n    image: x:1\n    run: |\n" + "      ${{ git.sha }}\n" * 5000),
    "stages": small("".join(f"  s{n}: {{image: 'b:1', run: c}}\n" for n in range(4000))),
    "circles": small("".join(f"  s{n}: {{needs: [s{(n * 7 + 3) % 1700}], image: x, run: c}}\n" for n in range(1700))),
    "conditions": small(STAGE + f"    when: [{','.join(f'{{if: nope{n}}}' for n in range(5000))}]\n"),
    "matrices": small("".join(f"  s{n}: {{image: 'x:1', run: y, matrix: {{x: [{','.join(map(str, range(16)))}], "
                              f"y: [{','.join(map(str, range(16)))}]}}}}\n" for n in range(700))),
    "far references": small("".join(
        f"  s{n}:\n    needs: [{','.join(f's{m}' for m in range(max(0, n - 6), n))}]\n    image: x:1\n    run: y\n"
        f"    outputs: [X]\n" + ("    env: {A: '${{ stages.s0.outputs.X }}'}\n" if n else "") for n in range(800))),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_judged_in_a_quarter_of_a_second(name: str) -> None:
    assert len(FLOODS[name]) < 128 * 1024
    assert spent(lambda: mistakes(FLOODS[name])) < 0.25


# --- include --------------------------------------------------------------------------------------------------------

PART = """\
version: 1
inputs:
  python: {type: choice, options: [3.10, 3.12], default: 3.12}
  slow: {type: boolean, default: false}
  suite: {required: true}
stages:
  unit:
    image: "python:${{ inputs.python }}-slim"
    run: pytest $SUITE
    when: {if: "inputs.slow || branch == 'inputs.slow'"}
  after:
    image: x:1
    run: z
"""


def included(folder: Path, include: str, part: str = PART) -> Path:
    (folder / "ci").mkdir()
    (folder / "ci" / "part.yml").write_text(part)
    (folder / "pipe.yml").write_text(f"version: 1\nname: x\ninclude: {include}\nstages:\n  own:\n{RUN}")
    return folder / "pipe.yml"


def test_included_stages_come_first_with_their_inputs_filled_in(tmp_path: Path) -> None:
    include = "[{file: ci/part.yml, inputs: {python: 3.10, slow: true, suite: fast}}]"
    loaded = load(included(tmp_path, include), shown="pipe.yml")
    stages = loaded.definition.stages
    assert list(stages) == ["unit", "after", "own"]
    assert stages["unit"].image == "python:3.10-slim"
    assert stages["unit"].when[0].if_ == "true || branch == 'inputs.slow'"
    assert stages["unit"].env == {"PYTHON": "3.10", "SLOW": "true", "SUITE": "fast"}
    assert [n.stage for n in stages["after"].needs or ()] == ["unit"]
    assert stages["own"].needs == []
    assert loaded.line("after") == 11
    assert restore(as_data(loaded.definition)).definition == loaded.definition


@pytest.mark.parametrize(
    ("include", "says"),
    [
        ("{file: ci/part.yml}", "the input `suite` is missing"),
        ("{file: ci/part.yml, inputs: {suite: a, pyton: 3}}", "there is no input `pyton`"),
        ("{file: ci/part.yml, inputs: {suite: a, slow: 3}}", "the input `slow` must be true or false"),
        ("{file: ci/part.yml, inputs: {suite: a, python: 3.11}}", "the input `python` must be one of 3.10, 3.12"),
        ("{file: ci/nope.yml}", "ci/nope.yml: there is no such file"),
        ("{file: ../part.yml}", "`../part.yml` leads out of the repository"),
        ("/etc/passwd", "`/etc/passwd` leads out of the repository"),
        ("[{file: ci/part.yml, inputs: {suite: a}}, {file: ci/part.yml}]", "`ci/part.yml` is included twice"),
        ("{fil: ci/part.yml}", "unknown key `fil`"),
    ],
)
def test_a_wrong_include_is_told(tmp_path: Path, include: str, says: str) -> None:
    with pytest.raises(WrongDefinition) as caught:
        load(included(tmp_path, include))
    assert says in caught.value.message


def test_a_mistake_in_an_included_file_is_told_with_that_file(tmp_path: Path) -> None:
    part = PART.replace("run: pytest", "rnu: pytest")
    with pytest.raises(WrongDefinition) as caught:
        load(included(tmp_path, "{file: ci/part.yml, inputs: {suite: a}}", part))
    assert "ci/part.yml:9:5: unknown key `rnu`\n  9 |     rnu: pytest $SUITE" in caught.value.message


def test_a_reference_in_an_included_file_is_checked_there(tmp_path: Path) -> None:
    part = PART.replace("image: x:1", 'image: "${{ stages.nope.image }}"')
    with pytest.raises(WrongDefinition) as caught:
        load(included(tmp_path, "{file: ci/part.yml, inputs: {suite: a}}", part))
    assert "ci/part.yml:12:13: there is no stage `nope`" in caught.value.message


def test_an_input_of_an_included_file_can_not_be_a_variable_that_programs_obey(tmp_path: Path) -> None:
    part = PART.replace("  suite:", "  ld_preload: {}\n  suite:")
    with pytest.raises(WrongDefinition) as caught:
        load(included(tmp_path, "{file: ci/part.yml, inputs: {suite: a}}", part))
    assert "ci/part.yml:5:3: `ld_preload` can not be an input" in caught.value.message


LOADERS = [
    *sorted(TAKEN),
    *(
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "DYLD_INSERT_LIBRARIES",
        "PIPE_RUN",
        "BASH_FUNC_x",
        "GIT_CONFIG_COUNT",
    ),
]
PLACES = {
    "axis": "    matrix: {{{lower}: [x]}}\n",
    "included axis": "    matrix: {{include: [{{{lower}: x}}]}}\n",
    "secret": "    secrets: [{name}]\n",
    "output": "    outputs: [{name}]\n",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", LOADERS)
def test_no_variable_that_shells_and_loaders_obey_comes_from_outside_of_env(name: str, place: str) -> None:
    line = PLACES[place].format(name=name, lower=name.lower())
    assert any(f"${name.upper() if 'axis' in place else name} can not be" in one for one in told(small(STAGE + line)))


@pytest.mark.parametrize("name", LOADERS)
def test_no_input_sets_a_variable_that_shells_and_loaders_obey(name: str) -> None:
    top = f"on: {{manual: {{inputs: {{{name.lower()}: {{}}}}}}}}\n"
    assert any("can not be set by an input" in one for one in told(small(STAGE, top=top)))


def test_an_included_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "other.yml").write_text(PART)
    path = included(tmp_path / "repo", "{file: ci/link.yml}")
    (tmp_path / "repo" / "ci" / "link.yml").symlink_to("../../other.yml")
    with pytest.raises(WrongDefinition, match="leads out of"):
        load(path)


def test_a_stage_of_the_same_name_in_two_files_is_refused(tmp_path: Path) -> None:
    part = PART.replace("  after:", "  own:")
    with pytest.raises(WrongDefinition, match="the stage `own` is also in ci/part"):
        load(included(tmp_path, "{file: ci/part.yml, inputs: {suite: a}}", part))


# --- the operator's file --------------------------------------------------------------------------------------------


def environments(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "environments.yml").write_text(text)
    try:
        load_environments(tmp_path / "environments.yml", shown="environments.yml")
    except WrongDefinition as error:
        return [m.message for m in error.mistakes]
    return []


def test_environments_are_read(tmp_path: Path) -> None:
    (tmp_path / "environments.yml").write_text(ENVIRONMENTS)
    found = load_environments(tmp_path / "environments.yml").applications["shop"].environments
    assert list(found) == ["test", "release"]
    assert found["test"].public.port == 8081
    assert found["release"].approval is not None
    assert found["release"].approval.rules[0].count == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{port: 8081}", "{port: 8081, host: a}", "`public` has a port or a host, not both"),
        ("from: test", "from: tset", "there is no other environment `tset`"),
        ("* * FRI", "* * FRY", "`FRY` can not be the day of the week (0-7)"),
        ("public: {host: shop.example}", "target: {docker: x, swarm: y}", "`target` has exactly one of"),
        ("public: {host: shop.example}", "public: {port: 8081}", "port 8081 is already that of shop.test"),
        ("requires:", "require:", "unknown key `require`"),
        ("gate: before_swap", "gate: later", "`gate` is `later`; it can be before_start, before_swap"),
    ],
)
def test_a_wrong_environment_is_told(tmp_path: Path, old: str, new: str, says: str) -> None:
    found = environments(tmp_path, ENVIRONMENTS.replace(old, new))
    assert len(found) == 1
    assert says in found[0]


# --- anything at all ------------------------------------------------------------------------------------------------


_PIECES = ("", "\n", "[", "]", "{", ": ", "- ", '"', "${{ ", "3.10", "&a ", "*a", "  ", "needs", "true", "~", "|")
_EDITS = st.tuples(st.integers(0, len(FULL) - 1), st.integers(0, 12), st.integers(0, len(FULL) - 1), st.integers(0, 25))


@given(st.lists(st.tuples(_EDITS, st.sampled_from(_PIECES)), min_size=1, max_size=4))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_right_file_with_random_edits_is_read_or_refused(edits: list[tuple[tuple[int, int, int, int], str]]) -> None:
    text = FULL
    for (start, gone, source, taken), piece in edits:
        text = text[:start] + piece + FULL[source : source + taken] + text[start + gone :]
    definition = read_or_refused(text)
    if definition is not None:
        assert restore(json.loads(json.dumps(as_data(definition)))).definition == definition


def read_or_refused(text: str) -> Definition | None:
    """Return the definition, or None after a refusal that names a place."""
    try:
        return loads(text).definition
    except DefinitionError as error:
        message = error.message
    assert re.match(r"pipe\.yml:\d+:\d+: ", message)
    return None


_KEYS = sorted({*Definition.model_fields, *Stage.model_fields, "if", "stage", "a"})
_VALUES = st.recursive(
    st.sampled_from(["x", "3.10", "true", "~", "${{ git.sha }}", "main", "15m", "-1", "99999", "a: b", "'*'", "[]"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6), st.dictionaries(st.sampled_from(_KEYS), _VALUES))
@settings(derandomize=True, max_examples=250, deadline=None)
def test_known_keys_with_any_values_are_read_or_refused(top: dict[str, str], stage: dict[str, str]) -> None:
    text = "".join(f"{key}: {value}\n" for key, value in top.items() if key != "stages")
    text += "stages:\n  a: {" + ", ".join(f"{key}: {value}" for key, value in stage.items()) + "}\n"
    read_or_refused(text)
