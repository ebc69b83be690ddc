"""A workspace is the working tree as the person sees it, whole, self-contained, and of the run's moment."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.definition import Stage
from pipeline.errors import DefinitionError, Unavailable
from pipeline.settings import passed_on
from runners import git as git_module
from runners import process, repository, workspace
from runners.engines.docker import DockerEngine
from runners.head_start import HeadStart
from tests.runners.stand import close, git, settings_in, work
from tests.runners.stand import repository as make_repository


@pytest.fixture
def settings(tmp_path):
    made = settings_in(tmp_path / "home")
    yield made
    close(made)


@pytest.fixture
def source(tmp_path):
    files = {
        "a.txt": "a\n",
        "b.txt": "b\n",
        "dir/c.txt": "c\n",
        ".gitignore": "*.log\nignored/\n",
        "run.sh": "#!/bin/sh\n",
    }
    folder = make_repository(tmp_path / "shop", files)
    git(folder, "tag", "-a", "v1.2", "-m", "one two")
    return folder


def files(folder: Path) -> dict[str, str]:
    """Return all files and links below a folder, without `.git`."""
    found = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names + [name for name in folders if Path(top, name).is_symlink()]:
            path = Path(top, name)
            found[str(path.relative_to(folder))] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
    return found


def prepared(settings, source, **more):
    return workspace.prepare(work(settings, source, repository.event(source), **more))


def test_it_is_a_clone_in_which_git_describes(settings, source):
    made = prepared(settings, source)
    assert git(made.path, "describe") == "v1.2"
    assert git(made.path, "status", "--porcelain") == ""
    assert git(made.path, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    git(made.path, "fsck", "--strict")


def test_it_holds_the_working_tree_with_everything_uncommitted(settings, source):
    (source / "a.txt").write_text("changed\n")
    (source / "b.txt").unlink()
    (source / "new").mkdir()
    (source / "new/n.txt").write_text("new\n")
    (source / "staged.txt").write_text("staged\n")
    git(source, "add", "staged.txt")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("dir/c.txt")
    (source / "out").symlink_to("/etc")
    (source / "noise.log").write_text("noise")
    (source / "ignored").mkdir()
    (source / "ignored/x").write_text("x")
    (source / "ä\n ö.txt").write_text("odd\n")
    made = prepared(settings, source)
    assert files(made.path) == {
        "a.txt": "changed\n", "dir/c.txt": "c\n", ".gitignore": "*.log\nignored/\n", "run.sh": "#!/bin/sh\n",
        "new/n.txt": "new\n", "staged.txt": "staged\n", "link": "-> dir/c.txt", "out": "-> /etc", "ä\n ö.txt": "odd\n",
    }  # fmt: skip
    assert (made.path / "run.sh").stat().st_mode & 0o777 == 0o755
    assert git(made.path, "describe", "--dirty") == "v1.2-dirty"


def test_files_links_and_folders_may_change_places(settings, source):
    (source / "a.txt").unlink()
    (source / "a.txt").mkdir()
    (source / "a.txt/inner").write_text("inner\n")
    (source / "dir/c.txt").unlink()
    (source / "dir").rmdir()
    (source / "dir").symlink_to("/tmp")
    made = prepared(settings, source)
    found = files(made.path)
    assert found["a.txt/inner"] == "inner\n"
    assert found["dir"] == "-> /tmp"
    assert not Path("/tmp/c.txt").exists()


def test_a_committed_link_that_became_a_folder_is_not_written_through(settings, source, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (source / "way").symlink_to(victim)
    git(source, "add", "-A")
    git(source, "commit", "-qm", "link")
    (source / "way").unlink()
    (source / "way").mkdir()
    (source / "way/f").write_text("f")
    made = prepared(settings, source)
    assert files(made.path)["way/f"] == "f"
    assert list(victim.iterdir()) == []


def test_all_stages_see_the_tree_as_it_was_when_the_run_began(settings, source):
    event = repository.event(source)
    (source / "a.txt").write_text("before\n")
    event = repository.event(source)
    first = work(settings, source, event)
    assert (workspace.prepare(first).path / "a.txt").read_text() == "before\n"
    (source / "a.txt").write_text("after\n")
    second = work(settings, source, event, position=1)
    assert (workspace.prepare(second).path / "a.txt").read_text() == "before\n"


def test_what_a_stage_does_reaches_no_other_workspace_and_no_mirror(settings, source):
    first = work(settings, source, repository.event(source))
    made = workspace.prepare(first)
    inodes = {path.stat().st_ino for path in settings.mirrors.rglob("*") if path.is_file()}
    for path in made.path.rglob("*"):
        if path.is_file():
            assert path.stat().st_ino not in inodes
            path.chmod(0o644)
            path.write_bytes(b"spoilt")
    second = workspace.prepare(work(settings, source, first.run.event, number=2))
    assert files(second.path)["a.txt"] == "a\n"
    git(second.path, "fsck", "--strict")


def test_preparing_again_keeps_what_the_attempt_wrote(settings, source):
    first = work(settings, source, repository.event(source))
    (workspace.prepare(first).path / "built").write_text("mine")
    assert (workspace.prepare(first).path / "built").read_text() == "mine"


def test_a_half_made_snapshot_is_made_again(settings, source):
    first = work(settings, source, repository.event(source))
    home = workspace.snapshot(first).path.parent
    (home / "made").unlink()
    (home / "hello/a.txt").unlink()
    assert files(workspace.prepare(first).path)["a.txt"] == "a\n"


def test_a_stage_at_the_same_time_waits_for_the_one_snapshot(settings, source):
    one = work(settings, source, repository.event(source))
    made: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda n=n: made.append(workspace.prepare(work(settings, source, one.run.event, position=n)).path)
        )
        for n in range(4)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len({str(path) for path in made}) == 4
    assert all(files(path)["a.txt"] == "a\n" for path in made)


def test_a_spare_made_ahead_is_used_once(settings, source):
    first = work(settings, source, repository.event(source))
    workspace.ahead(first).join()
    spare = next(workspace.snapshot(first).path.parent.glob("spare-*"))
    inode = (spare / "a.txt").stat().st_ino
    assert (workspace.prepare(first).path / "a.txt").stat().st_ino == inode
    second = workspace.prepare(work(settings, source, first.run.event, number=2))
    assert (second.path / "a.txt").stat().st_ino != inode


def test_a_run_gets_the_snapshot_that_was_begun_before_it_had_a_number(settings, source):
    (source / "a.txt").write_text("at the beginning\n")
    one = work(settings, source, repository.event(source))
    early = HeadStart(settings, one.run.event, source, one.workspaces, "hello")
    early.give(workspace.run_folder(one.workspaces, one.db.installation, one.run.id))
    early._thread.join()
    (source / "a.txt").write_text("later\n")
    assert files(workspace.prepare(one).path)["a.txt"] == "at the beginning\n"
    early.end()
    assert list(one.workspaces.glob("early-*")) == []
    assert not repository.event(source).paths


def test_a_snapshot_that_no_run_wanted_is_removed_and_one_that_failed_is_made_again(settings, source):
    one = work(settings, source, repository.event(source))
    dead = one.workspaces / "early-4194999"  # more than any process's number
    dead.mkdir(parents=True)
    early = HeadStart(settings, one.run.event, source, one.workspaces, "hello")
    early.end()
    early.end()
    assert list(one.workspaces.glob("early-*")) == []
    failed = HeadStart(settings, replace(one.run.event, sha="0" * 39 + "1"), source, one.workspaces, "hello")
    failed.give(workspace.run_folder(one.workspaces, one.db.installation, one.run.id))
    assert files(workspace.prepare(one).path)["a.txt"] == "a\n"


def test_a_commit_without_the_uncommitted_can_be_asked_for(settings, source):
    git(source, "commit", "-q", "--allow-empty", "-m", "Second")
    (source / "a.txt").write_text("uncommitted\n")
    event = repository.event_at(source, "v1.2")
    made = workspace.prepare(work(settings, source, event))
    assert files(made.path)["a.txt"] == "a\n"
    assert git(made.path, "rev-parse", "HEAD") == event.sha


def test_a_folder_inside_a_repository_is_where_commands_start(settings, source):
    made = prepared(settings, source, project="dir")
    assert repository.locate(source / "dir") == repository.Place(source / "dir", source, "dir", source / ".git")
    assert (made.prefix, made.folder, (made.folder / "c.txt").read_text()) == ("dir", made.path / "dir", "c\n")
    assert git(made.folder, "describe") == "v1.2"


def test_a_repository_without_commits_runs_as_it_lies_there(settings, tmp_path):
    folder = tmp_path / "young"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    (folder / "a.txt").write_text("a")
    (folder / ".gitignore").write_text("*.log")
    (folder / "x.log").write_text("x")
    event = repository.event(folder)
    assert (event.sha, event.branch, event.dirty) == (git_module.ZERO, "trunk", True)
    made = workspace.prepare(work(settings, folder, event))
    assert files(made.path) == {"a.txt": "a", ".gitignore": "*.log"}
    assert git(made.path, "rev-parse", "--show-toplevel") == str(made.path.resolve())


def test_a_folder_in_no_repository_runs_without_what_it_ignores(settings, tmp_path):
    folder = tmp_path / "plain"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.txt").write_text("a")
    (folder / ".gitignore").write_text("*.log")
    (folder / "x.log").write_text("x")
    event = repository.event(folder)
    assert (event.sha, event.branch, event.ref, event.dirty) == (git_module.ZERO, "", "", True)
    made = workspace.prepare(work(settings, folder, event))
    assert files(made.path) == {"sub/a.txt": "a", ".gitignore": "*.log"}
    assert not (made.path / ".git").exists()


def test_a_repository_with_longer_commit_ids_works(settings, tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main", "--object-format=sha256")
    (folder / "a.txt").write_text("a")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a")
    git(folder, "tag", "v9")
    made = prepared(settings, folder)
    assert git(made.path, "describe", "--tags", "--dirty") == "v9"
    assert git(made.path, "diff-files") == ""
    git(made.path, "fsck", "--strict")


def test_a_file_that_git_flags_or_converts_does_not_mislead(settings, source):
    """Git says that they are as committed; their sizes say otherwise, and only then is a time not taken over."""
    (source / ".gitattributes").write_text("*.dos text eol=crlf\n")
    (source / "x.dos").write_text("one\ntwo\n")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "dos")
    git(source, "update-index", "--assume-unchanged", "b.txt")
    (source / "b.txt").write_text("longer than it was\n")
    (source / "x.dos").write_bytes(b"one\ntwo\n")
    os.utime(source / "b.txt", ns=(10**18, 10**18))
    made = prepared(settings, source)
    assert (made.path / "b.txt").read_text() == "b\n"
    assert (made.path / "b.txt").stat().st_mtime_ns != 10**18
    assert (made.path / "x.dos").read_bytes() == b"one\r\ntwo\r\n"
    assert git(made.path, "status", "--porcelain") == ""


def test_an_ignored_folder_is_taken_as_no_repository(settings, source):
    (source / "ignored").mkdir()
    (source / "ignored/own.txt").write_text("own")
    assert files(prepared(settings, source / "ignored").path) == {"own.txt": "own"}


def test_a_worktree_of_the_user_works_inside(settings, source, tmp_path):
    git(source, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side/a.txt").write_text("side\n")
    made = prepared(settings, tmp_path / "side")
    assert files(made.path)["a.txt"] == "side\n"
    assert git(made.path, "describe", "--dirty") == "v1.2-dirty"
    assert git(made.path, "rev-parse", "--abbrev-ref", "HEAD") == "side"


def test_a_detached_head_is_a_commit_without_branch(settings, source):
    git(source, "checkout", "-q", "--detach")
    git(source, "commit", "-q", "--allow-empty", "-m", "Nowhere")
    event = repository.event(source)
    assert (event.branch, event.ref) == ("", "HEAD")
    made = workspace.prepare(work(settings, source, event))
    assert git(made.path, "log", "-1", "--format=%s") == "Nowhere"


def test_a_shallow_repository_can_be_run(settings, source, tmp_path):
    for n in range(3):
        git(source, "commit", "-q", "--allow-empty", "-m", f"c{n}")
    git(tmp_path, "clone", "-q", "--depth=2", source.as_uri(), "shallow")
    made = prepared(settings, tmp_path / "shallow")
    assert git(made.path, "rev-list", "--count", "HEAD") == "2"
    git(made.path, "fsck")


def test_depth_cuts_the_history_and_keeps_the_tag_of_the_commit(settings, source):
    for n in range(3):
        git(source, "commit", "-q", "--allow-empty", "-m", f"c{n}")
    git(source, "tag", "v2")
    spec = Stage.model_validate({"image": "x", "run": "true", "checkout": {"depth": 1}})
    made = prepared(settings, source, spec=spec)
    assert git(made.path, "rev-list", "--count", "HEAD") == "1"
    assert git(made.path, "describe", "--tags") == "v2"
    git(made.path, "fsck")


def test_without_checkout_it_is_an_empty_folder(settings, source):
    spec = Stage.model_validate({"image": "x", "run": "true", "checkout": False})
    assert list(prepared(settings, source, spec=spec).path.iterdir()) == []


def test_a_submodule_is_filled_only_when_asked_and_with_its_changes(settings, source, tmp_path):
    inner = make_repository(tmp_path / "inner", {"i.txt": "i\n"})
    git(source, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub/inner")
    git(source, "commit", "-qm", "submodule")
    (source / "sub/inner/i.txt").write_text("edited\n")
    assert list((prepared(settings, source).path / "sub/inner").iterdir()) == []
    spec = Stage.model_validate({"image": "x", "run": "true", "checkout": {"submodules": True}})
    made = prepared(settings, source, spec=spec, number=2)
    assert files(made.path / "sub/inner") == {"i.txt": "edited\n"}
    assert git(made.path / "sub/inner", "status", "--porcelain") == " M i.txt"


def test_a_submodule_with_a_hostile_url_is_refused_and_runs_nothing(settings, source, tmp_path):
    canary = tmp_path / "canary"
    inner = make_repository(tmp_path / "inner", {"i.txt": "i\n"})
    sha = git(inner, "rev-parse", "HEAD")
    (source / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch {canary}"\n')
    git(source, "update-index", "--add", "--cacheinfo", f"160000,{sha},x")
    git(source, "add", ".gitmodules")
    git(source, "commit", "-qm", "hostile")
    spec = Stage.model_validate({"image": "x", "run": "true", "checkout": {"submodules": True}})
    with pytest.raises(DefinitionError, match="plain https or ssh URL"):
        prepared(settings, source, spec=spec)
    assert not canary.exists()


LFS = Stage.model_validate({"image": "x", "run": "true", "checkout": {"lfs": True}})


def test_large_files_without_their_program_say_what_to_install(settings, source, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Unavailable, match="needs git-lfs"):
        prepared(settings, source, spec=LFS)


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_large_files_stand_in_place_of_their_pointers_when_asked(settings, source):
    git(source, "lfs", "install", "--local")
    git(source, "lfs", "track", "*.bin")
    (source / "big.bin").write_bytes(b"large" * 1000)
    git(source, "add", "-A")
    git(source, "commit", "-qm", "large")
    assert files(prepared(settings, source).path)["big.bin"].startswith("version https://git-lfs")
    made = prepared(settings, source, spec=LFS, number=2)
    assert (made.path / "big.bin").read_bytes() == b"large" * 1000
    (source / "big.bin").write_bytes(b"changed")
    made = workspace.prepare(work(settings, source, repository.event(source), spec=LFS, run_id=8))
    assert (made.path / "big.bin").read_bytes() == b"changed"


def test_hooks_and_programs_in_the_repository_do_not_run(settings, source, tmp_path):
    canary = tmp_path / "canary"
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        path = source / ".git/hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {canary}\n")
        path.chmod(0o755)
    git(source, "config", "core.fsmonitor", f"touch {canary}; false")
    git(source, "config", "diff.external", f"touch {canary}; false")
    (source / "a.txt").write_text("dirty\n")
    canary.unlink(missing_ok=True)
    assert files(prepared(settings, source).path)["a.txt"] == "dirty\n"
    assert not canary.exists()


def test_environment_variables_of_git_do_not_lead_elsewhere(settings, source, tmp_path, monkeypatch):
    other = make_repository(tmp_path / "other", {"other.txt": "o\n"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert files(prepared(settings, source).path)["a.txt"] == "a\n"


def test_unchanged_files_keep_the_times_that_the_builder_knows(settings, source):
    os.utime(source / "a.txt", ns=(10**18, 10**18))
    made = prepared(settings, source)
    assert (made.path / "a.txt").stat().st_mtime_ns == 10**18
    assert git(made.path, "diff-files") == ""  # plumbing that does not look into files agrees


def test_removing_is_idempotent_and_follows_no_link(settings, source, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    one = work(settings, source, repository.event(source))
    made = workspace.prepare(one)
    (made.path / "trap").symlink_to(victim)
    workspace.remove(made)
    workspace.remove(made)
    for _ in range(2):
        workspace.forget_run(one.workspaces, one.db.installation, one.run.id, one.engine, image="")
    assert (victim / "kept").read_text() == "kept"
    assert [path.name for path in (source / ".pipe").iterdir()] == [".gitignore"]
    assert not repository.event(source).dirty  # what runs leave here is no change of the tree


def test_the_owner_is_the_stages_user(settings, source):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    made = workspace.prepare(work(settings, source, repository.event(source)), owner=(1234, 2345))
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in made.path.rglob("*")} == {(1234, 2345)}


@pytest.mark.docker
def test_a_container_removes_and_gives_away_what_only_root_can(settings, source):
    """Whoever runs `pipe` without being root meets files of root, and stages of other users."""
    engine = DockerEngine(settings, "test")
    one = work(settings, source, repository.event(source), engine=engine)
    made = workspace.prepare(one)
    as_root = functools.partial(workspace._as_root, engine, settings.base_image, one.labels)
    assert as_root(made.path.parent, ("chown", "-R", "1234:2345", "--", f"/there/{made.path.name}"))
    assert made.path.stat().st_uid == 1234
    assert as_root(made.path.parent, ("rm", "-rf", "--", f"/there/{made.path.name}"))
    assert not made.path.exists()
    assert not as_root(made.path.parent, ("rm", "--", "/there/none"))
    assert engine.find(one.labels) == []
    engine.close()


def test_packing_gives_the_same_tree(settings, source, tmp_path):
    (source / "link").symlink_to("a.txt")
    made = prepared(settings, source)
    target = tmp_path / "unpacked"
    target.mkdir()
    archive = tmp_path / "x.tar"
    archive.write_bytes(b"".join(workspace.pack(made)))
    assert process.run(["tar", "-xf", str(archive), "-C", str(target)], env=passed_on()).ok
    assert files(target) == files(made.path)
    assert git(target, "describe") == "v1.2"
