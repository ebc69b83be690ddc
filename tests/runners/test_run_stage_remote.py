"""The same stage on an engine that does not see this machine's files: everything goes in and out as archives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.model import Status
from tests.runners.stage_stand import Stand, standing

pytestmark = pytest.mark.docker


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path, {"a.txt": "hello\n"}) as made:
        made.engine.shares_files = False
        yield made


def test_workspace_outputs_artifacts_and_reports_go_both_ways(stand):
    report = "<testsuite name='s'><testcase name='good'/></testsuite>"
    spec = {
        "outputs": ["version"],
        "artifacts": {"paths": ["out"]},
        "reports": {"junit": "*.xml"},
        "run": [
            "cat a.txt; test -d .git",
            f'mkdir out; echo 1 > out/x; echo version=7 > $PIPE_OUTPUT; echo "{report}" > r.xml',
        ],
    }
    done = stand.run(spec)
    assert done.outcome.status is Status.SUCCEEDED, done.log
    assert done.outcome.outputs == {"version": "7"}
    assert "1 test: 1 passed" in done.log
    assert [file.path for file in artifacts.of_stage(stand.db, done.work.stage.id)] == ["out/x"]
    assert stand.left() == []


def test_another_user_owns_what_was_copied_in(stand):
    done = stand.run({"user": "1234:1234", "run": ["touch mine; stat -c %u . a.txt", "echo x=1 >> $PIPE_OUTPUT"]})
    assert done.outcome.status is Status.SUCCEEDED, done.log
    assert "1234\n1234" in done.log


def test_caches_are_kept_as_archives(stand):
    add = "cat ~/.cache/tool/seen 2>/dev/null || echo empty; echo {} >> ~/.cache/tool/seen"
    spec = {"cache": {"paths": ["~/.cache/tool"]}, "run": ["mkdir -p ~/.cache/tool", add.format("one")]}
    assert stand.run(spec).log.splitlines()[-1] == "empty"
    assert stand.run(spec).log.splitlines()[-1] == "one"
