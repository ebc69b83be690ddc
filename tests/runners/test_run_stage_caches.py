"""Caches of stages: kept per branch and key, borrowed from the default branch, never shared, never poisoned."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StageFailed
from pipeline.model import Status
from tests.runners.stage_stand import Stand, standing
from tests.runners.stand import git

pytestmark = pytest.mark.docker

ADD = "cat {path}/seen 2>/dev/null || echo empty; echo {word} >> {path}/seen"


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path, {"lock": "1\n"}) as made:
        yield made


def kept(stand: Stand, word: str, *, path: str = "~/.cache/tool", branch: str = "main", **more: object) -> list[str]:
    """Run a stage that shows what its cache holds, and adds a word."""
    event = {key: more.pop(key) for key in ("trusted",) if key in more}
    cache = {"paths": [path], **more}
    real = path.replace("~", "/root")
    done = stand.run({"cache": cache, "run": [ADD.format(path=real, word=word)]}, branch=branch, **event)
    assert done.outcome.status is Status.SUCCEEDED, done.log
    return done.log.splitlines()[
        done.log.splitlines().index(next(x for x in done.log.splitlines() if x[0] == "$")) + 1 :
    ]


def test_what_a_run_leaves_the_next_one_finds(stand):
    assert kept(stand, "one") == ["empty"]
    assert kept(stand, "two") == ["one"]
    assert kept(stand, "three") == ["one", "two"]


def test_a_folder_of_the_workspace_may_be_kept(stand):
    assert kept(stand, "one", path="node_modules") == ["empty"]
    assert kept(stand, "two", path="node_modules") == ["one"]


def test_another_branch_borrows_the_default_branchs_and_does_not_change_it(stand):
    kept(stand, "main")
    assert kept(stand, "branch", branch="feature") == ["main"]
    assert kept(stand, "branch", branch="feature") == ["main", "branch"]
    assert kept(stand, "main") == ["main"]


def test_a_changed_key_file_begins_anew_from_what_there_was(stand):
    key = {"files": ["lock"]}
    kept(stand, "one", key=key)
    (stand.source / "lock").write_text("2\n")
    assert kept(stand, "two", key=key) == ["one"]
    git(stand.source, "checkout", "-q", "lock")
    assert kept(stand, "three", key=key) == ["one"]


def test_an_untrusted_run_reads_the_default_branchs_and_leaves_nothing(stand):
    kept(stand, "main")
    assert kept(stand, "evil", branch="main", trusted=False) == ["main"]
    assert kept(stand, "evil", branch="fork", trusted=False) == ["main"]
    assert kept(stand, "good", branch="fork") == ["main"]
    assert kept(stand, "main") == ["main"]


def test_a_policy_of_pulling_only_writes_nothing(stand):
    kept(stand, "one")
    assert kept(stand, "two", policy="pull") == ["one"]
    assert kept(stand, "three") == ["one"]


def test_two_at_once_have_each_their_own(stand):
    spec = {"cache": {"paths": ["~/c"]}, "run": ["test ! -e ~/c/mine; touch ~/c/mine; sleep 0.5"]}
    stand.accept({"a": spec, "b": spec})
    works = [stand.work(), stand.work()]
    outcomes = []
    threads = [threading.Thread(target=lambda w=w: outcomes.append(stand.do(w).status)) for w in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Status.SUCCEEDED] * 2


def test_a_path_that_caught_nothing_is_told(stand):
    done = stand.run({"cache": {"paths": ["~/.cache/nothing"]}, "run": ["true"]})
    assert "warning: the cache path `~/.cache/nothing` caught nothing" in done.log


def test_a_failed_stage_keeps_its_cache_but_a_killed_one_only_outside_the_workspace(stand):
    done = stand.run({"cache": {"paths": ["~/c"]}, "run": ["echo 1 > ~/c/seen; false"]})
    assert done.outcome.status is Status.FAILED
    assert kept(stand, "2", path="~/c") == ["1"]
    for path, found in (("inside", ["empty"]), ("~/outside", ["1"])):
        real = path.replace("~", "/root")
        stand.accept({"a": {"cache": {"paths": [path]}, "run": [f"echo 1 > {real}/seen; sleep 300"]}})
        cancelled = threading.Event()
        work = stand.work(cancelled=cancelled)
        threading.Thread(target=_cancel_when, args=(work, real, cancelled, stand), daemon=True).start()
        stand.do(work)
        assert kept(stand, "2", path=path) == found


def _cancel_when(work, real, cancelled, stand):
    while not cancelled.wait(0.1):
        if any((stand.settings.home / "caches" / "used").glob(f"{work.key}-0/0/seen")):
            cancelled.set()


@pytest.mark.parametrize("path", ["/", "..", "../x", ".", "/etc", "/workspace"])
def test_a_path_that_would_replace_more_than_itself_is_refused(stand, path):
    with pytest.raises(StageFailed, match="not allowed"):
        stand.run({"cache": {"paths": [path]}, "run": ["true"]})


def test_another_user_may_write_to_its_cache(stand):
    (stand.source / "lock").chmod(0o644)
    spec = {"user": "1234:1234", "cache": {"paths": ["deps"]}, "run": ["ls deps; touch deps/x"]}
    assert stand.run(spec).outcome.status is Status.SUCCEEDED
    assert stand.run(spec).log.splitlines()[-1] == "x"
