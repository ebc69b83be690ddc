"""What is asked about the repository that is here, and answered from it."""

from __future__ import annotations

import statistics
import time

import pytest

from pipeline.errors import DefinitionError, NotFound
from runners import repository
from tests.runners.stand import git
from tests.runners.stand import repository as make_repository


@pytest.fixture
def source(tmp_path):
    return make_repository(tmp_path / "shop", {"a.txt": "a\n", "pipe.yml": "version: 1\n"})


def test_a_clean_branch_is_a_push_by_its_author(source):
    event = repository.event(source, by="grace")
    assert (event.kind, event.branch, event.ref, event.dirty) == ("push", "main", "refs/heads/main", False)
    assert (event.author, event.message, event.by) == ("Ada <ada@example.org>", "First commit", "grace")
    assert (event.sha, event.repository) == (git(source, "rev-parse", "HEAD"), str(source))


@pytest.mark.parametrize("change", ["edit", "new", "delete", "stage", "mode"])
def test_every_change_makes_it_dirty(source, change):
    if change == "edit":
        (source / "a.txt").write_text("b\n")
    elif change == "delete":
        (source / "a.txt").unlink()
    elif change == "mode":
        (source / "a.txt").chmod(0o755)
    else:
        (source / "new.txt").write_text("n\n")
        if change == "stage":
            git(source, "add", "new.txt")
    assert repository.event(source).dirty


def test_an_ignored_file_does_not(source):
    (source / ".git/info").mkdir(exist_ok=True)
    (source / ".git/info/exclude").write_text("*.log\n")
    (source / "x.log").write_text("x")
    assert not repository.event(source).dirty


@pytest.mark.parametrize(
    "branch", ["$(touch${IFS}canary)", "a;b", "`id`", "ä/ö", "a'b", 'a"b', "x#1", "a&b", "a|b", "%s", "@a", "a{b}"]
)
def test_a_branch_with_a_shell_in_its_name_is_just_a_name(source, branch):
    git(source, "checkout", "-q", "-b", branch)
    event = repository.event(source)
    assert (event.branch, event.ref) == (branch, f"refs/heads/{branch}")
    assert sorted(path.name for path in source.iterdir()) == [".git", "a.txt", "pipe.yml"]


def test_a_tag_event_is_of_the_newest_tag_at_the_commit(source):
    git(source, "tag", "-a", "v1", "-m", "1", GIT_COMMITTER_DATE="2020-01-01T00:00:00Z")
    git(source, "tag", "-a", "v2", "-m", "2", GIT_COMMITTER_DATE="2021-01-01T00:00:00Z")
    event = repository.event(source, "tag")
    assert (event.kind, event.tag, event.ref) == ("tag", "v2", "refs/tags/v2")


def test_a_tag_event_without_a_tag_says_so(source):
    with pytest.raises(DefinitionError, match="no tag points at"):
        repository.event(source, "tag")


def test_the_default_branch_is_what_the_origin_says(source, tmp_path):
    assert repository.default_branch(source) == "main"
    git(source, "checkout", "-q", "-b", "side")
    assert repository.default_branch(source) == "main"
    git(source, "branch", "-m", "main", "trunk")
    git(source, "checkout", "-q", "trunk")
    git(tmp_path, "clone", "-q", str(source), "copy")
    git(tmp_path / "copy", "checkout", "-q", "-b", "side")
    assert repository.default_branch(tmp_path / "copy") == "trunk"


def test_a_commit_tells_what_it_changed(source):
    first = git(source, "rev-parse", "HEAD")
    git(source, "mv", "a.txt", "b.txt")
    git(source, "commit", "-qam", "Rename\n\nwith a body")
    event = repository.event_at(source, "main")
    assert (event.paths, event.before, event.branch, event.dirty) == (event.paths, first, "main", False)
    assert event.message == "Rename\n\nwith a body"
    assert repository.changed_paths(source, first, event.sha) == ("a.txt", "b.txt")


@pytest.mark.parametrize("revision", ["nothing", "--all", "-n1", "", "HEAD:a.txt", "v1^{tree}", "\n"])
def test_a_revision_that_is_no_commit_is_not_found(source, revision):
    with pytest.raises(NotFound):
        repository.event_at(source, revision)


def test_a_definition_is_read_at_a_commit_and_links_are_refused(source):
    (source / "pipe.yml").write_text("version: 2\n")
    (source / "link.yml").symlink_to("/etc/passwd")
    git(source, "add", "link.yml")
    git(source, "commit", "-qm", "link")
    sha = git(source, "rev-parse", "HEAD")
    assert repository.text_at(source, sha, "pipe.yml") == "version: 1\n"
    for path in ("link.yml", "missing.yml", "../x", ".git/config", ""):
        with pytest.raises(NotFound):
            repository.text_at(source, sha, path)


def test_describing_the_working_tree_is_fast(source):
    """It stands before the first stage of every run: at most five starts of git itself."""
    ratios = []
    for _ in range(7):
        begun = time.perf_counter()
        git(source, "status")
        floor = time.perf_counter() - begun
        begun = time.perf_counter()
        repository.event(source)
        ratios.append((time.perf_counter() - begun) / floor)
    assert statistics.median(ratios) < 5
