"""The cache report names the file, argument or instruction that broke a layer, and what that cost."""

from __future__ import annotations

import os

import pytest

from runners import build_context, cache_report
from runners.buildkit import Step
from runners.cache_report import Inputs

FROM = Step("", "stage-0", 1, "FROM docker.io/library/debian:12", cached=True, started=1, completed=1)
COPY = Step("", "stage-0", 2, "COPY --chown=1 app.py conf/ /srv/", started=1, completed=1.5)
RUN = Step("", "stage-0", 3, "RUN make", started=2, completed=5)


def inputs(files=None, args=None, dockerfile="d", bases=None, **names) -> Inputs:
    files = {name: (f"hash-{name}", 1, 1) for name in ("app.py", "conf/a", "README")} | (files or {})
    return Inputs({k: v for k, v in files.items() if v}, args or {}, dockerfile, bases or {"debian:12": "one"})


def before(*steps: Step) -> list[dict[str, object]]:
    return [{"stage": step.stage, "text": step.text, "cost_seconds": 4.0} for step in steps or (FROM, COPY, RUN)]


def whys(steps, now, then, recorded):
    return [line.why for line in cache_report.report(steps, now, then, recorded).lines]


def cached(step: Step) -> Step:
    return Step(step.name, step.stage, step.number, step.text, cached=True, started=1, completed=1)


def test_everything_found_saves_what_it_last_cost():
    report = cache_report.report([cached(RUN), cached(COPY), FROM], inputs(), inputs(), before())
    assert (report.hits, report.saved_seconds) == (3, 12.0)
    assert report.text() == [
        "cache: 3 of 3 instructions HIT, 12.0 s saved",
        "  HIT   FROM docker.io/library/debian:12",
        "  HIT   COPY --chown=1 app.py conf/ /srv/",
        "  HIT   RUN make",
    ]


def test_a_changed_file_is_named_and_what_follows_follows():
    now = inputs({"app.py": ("new", 1, 2)})
    report = cache_report.report([RUN, COPY, FROM], now, inputs(), before())
    assert report.text()[1:] == [
        "  HIT   FROM docker.io/library/debian:12",
        "  MISS  COPY --chown=1 app.py conf/ /srv/  0.5 s  (app.py changed)",
        "  MISS  RUN make  3.0 s  (follows from the one above)",
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"conf/b": ("x", 1, 1)}, "conf/b changed"),
        ({"conf/a": None}, "conf/a changed"),
        ({"README": ("x", 1, 1)}, "the builder no longer had it"),  # not copied
        ({f"conf/{n}": ("x", 1, 1) for n in range(8)}, "conf/0, conf/1, conf/2, conf/3, conf/4 and 3 more changed"),
    ],
)
def test_only_files_that_the_instruction_copies_are_blamed(change, why):
    assert whys([COPY, FROM], inputs(change), inputs(), before())[1] == why


def test_an_argument_is_named_and_its_value_is_not_kept():
    now, then = inputs(args=cache_report.hashed({"V": "secret2"})), inputs(args=cache_report.hashed({"V": "secret1"}))
    assert whys([RUN, cached(COPY), FROM], now, then, before())[2] == "argument V changed"
    assert "secret" not in str(now.as_data())


def test_a_new_instruction_an_edited_heredoc_and_a_new_base_are_told_apart():
    new = Step("", "stage-0", 3, "RUN make all", started=2, completed=5)
    assert whys([new, cached(COPY), FROM], inputs(), inputs(), before())[2] == "the instruction is new or changed"
    edited = inputs(dockerfile="e")
    assert whys([RUN, cached(COPY), FROM], edited, inputs(), before())[2] == "the instruction is new or changed"
    based = inputs(bases={"debian:12": "two"})
    assert whys([COPY, FROM], based, inputs(), before())[1] == "the base image debian:12 changed"


def test_a_stage_that_was_built_again_is_named_where_it_is_copied_from():
    build = Step("", "build", 2, "RUN make", started=1, completed=2)
    final = Step("", "stage-1", 2, "COPY --from=build /a /a", started=2, completed=3)
    lines = whys([final, build], inputs(), inputs(), before(build, final))
    assert lines == ["the builder no longer had it", "follows from the stage build"]


def test_the_first_build_says_so_and_a_step_that_was_not_needed_is_a_hit():
    assert whys([COPY], inputs(), None, [])[0] == "first build here"
    unneeded = Step("", "build", 2, "RUN make")
    assert cache_report.report([unneeded], inputs(), inputs(), before()).hits == 1


def test_inputs_survive_being_stored():
    now = inputs({"a": ("h", 2, 3)}, {"A": "x"})
    assert cache_report.inputs_from(now.as_data()) == now
    none = Inputs(None, {}, "", {})
    assert cache_report.inputs_from(none.as_data()) == none


def test_unchanged_files_are_not_read_again(tmp_path):
    (tmp_path / "a").write_text("aaaa")
    ignore = build_context.Ignore(())
    first = build_context.files(tmp_path, ignore, {})
    facts = (tmp_path / "a").stat()
    (tmp_path / "a").write_text("bbbb")
    os.utime(tmp_path / "a", ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    assert build_context.files(tmp_path, ignore, first) == first  # same size and time: not looked into
    os.utime(tmp_path / "a", ns=(1, 1))
    assert build_context.files(tmp_path, ignore, first)["a"][0] != first["a"][0]


IGNORES = [
    ["*.log"],
    ["**/*.log"],
    ["a/"],
    ["/a"],
    ["a/*", "!a/keep"],
    ["*", "!a"],
    ["**", "!a/b/c.log"],
    ["a/**/c.log"],
    ["?.txt"],
    ["[ab]"],
    ["# comment", "", "a"],
    ["./a/b"],
    ["a/../x.txt"],
    ["!a", "a"],
    ["a", "!a"],
    ["**/b"],
    ["*/keep"],
    [".*"],
]
TREE = ["x.txt", "y.log", "xx.txt", "b", ".hidden", "a/keep", "a/x.log", "a/b/c.log", "a/b/d/c.log", "z/b/keep"]


@pytest.mark.docker
def test_ignore_patterns_mean_what_the_builder_means(tmp_path):
    """The builder is asked: it copies a context under each set of patterns, in one build."""
    from pipeline import settings
    from runners import buildkit, process

    lists = []
    for number, patterns in enumerate(IGNORES):
        context = tmp_path / f"context{number}"
        for path in TREE:
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (context / path).write_text(path)
        (context / ".dockerignore").write_text("\n".join([*patterns, ".dockerignore", "Dockerfile"]) + "\n")
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        out = tmp_path / f"out{number}"
        command = (buildkit.program(), "build", f"--output={out}", f"--file={tmp_path}/Dockerfile", str(context))
        assert process.run(command, env=settings.passed_on()).ok
        sent = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
        ignore = build_context.ignore_of(context, tmp_path / "Dockerfile")
        lists.append((patterns, sorted(build_context.files(context, ignore, {})), sent))
    assert [(patterns, ours) for patterns, ours, _ in lists] == [(patterns, sent) for patterns, _, sent in lists]
