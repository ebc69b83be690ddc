"""Artifacts: stored by content, given back unchanged, and never more than a stranger's archive may do."""

from __future__ import annotations

import io
import tarfile
import threading
import tracemalloc

import pytest
from sqlalchemy import select

from pipeline import artifacts, queue, runs, tar
from pipeline.errors import LeaseLost, NotFound, StageFailed, Unavailable
from pipeline.schema import artifacts as table
from tests.pipeline.hostile_archives import END, GOOD, archives, member
from tests.pipeline.story import GOOD as SUCCEEDED
from tests.pipeline.story import Story, stage

HOSTILE = list(archives())


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def content(settings, file):
    with artifacts.get(settings, file.sha256) as stored:
        return stored.read()


def in_chunks(data, size):
    return (data[at : at + size] for at in range(0, len(data), size))


# --- hostile archives -----------------------------------------------------------------------------------------------


def test_there_are_two_hundred_of_them():
    assert len(HOSTILE) >= 200
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_nothing_harmful_comes_out_of_a_hostile_archive(settings, tmp_path, size):
    wrong = []
    for hostile in HOSTILE:
        try:
            kept = artifacts.keep(settings, in_chunks(hostile.data, size), limits=tar.Limits(total_bytes=1 << 20))
        except StageFailed as error:
            if not hostile.whole or not error.hint:
                wrong.append((hostile.name, "refused as a whole", str(error)))
            continue
        paths = {file.path for file in kept.files}
        if not hostile.whole and paths != hostile.innocent:
            wrong.append((hostile.name, paths, kept.refused))
        if not hostile.whole and not kept.refused:
            wrong.append((hostile.name, "nothing was said"))
        for path in paths:
            if path.startswith("/") or ".." in path.split("/") or any(ord(c) < 32 for c in path) or len(path) > 1024:
                wrong.append((hostile.name, "came out", path))
        for name, why in kept.refused:
            if not why or any(ord(c) < 32 for c in name + why):
                wrong.append((hostile.name, "is told badly", name, why))
    assert wrong == []
    outside = [path for path in files_below(tmp_path) if settings.artifacts not in path.parents]
    assert outside == []
    assert all(len(path.name) == 64 for path in files_below(settings.artifacts))


def test_ten_gigabytes_of_zeros_stop_at_the_limit_without_filling_memory(settings):
    def zeros():
        yield member("zeros", b"", size=8**11 - 1)
        block = bytes(1 << 20)
        while True:
            yield block

    tracemalloc.start()
    with pytest.raises(StageFailed, match="more than"):
        artifacts.keep(settings, zeros(), limits=tar.Limits(total_bytes=50 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    assert files_below(settings.artifacts) == []


def test_a_claim_of_few_bytes_is_held_to(settings):
    kept = artifacts.keep(settings, [member("a", b"1234") + END])
    assert content(settings, kept.files[0]) == b"1234"


def test_more_members_than_permitted_are_refused(settings):
    with pytest.raises(StageFailed, match="more than 10 members"):
        artifacts.keep(settings, [GOOD * 11 + END], limits=tar.Limits(members=10))


def test_what_is_refused_is_named_with_the_reason(settings):
    archive = GOOD + member("../up") + member("link", b"", b"2", b"x") + member("pipe", b"", b"6") + END
    kept = artifacts.keep(settings, [archive])
    assert kept.refused == (
        ("../up", "its name leads out of the folder"),
        ("link", "it is a symbolic link"),
        ("pipe", "it is a FIFO"),
    )


# --- archives that people make --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 512, 513, 1 << 20])
def test_archives_of_every_format_and_cut_anywhere_are_read(settings, format_, size):
    names = ["a.txt", "./b/c.txt", "deep/" * 15 + "x.txt", "empty", "with space & ü.txt", "program"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 0 if name == "empty" else 1000 * number + 1
            info.mode = 0o755 if name == "program" else 0o640
            archive.addfile(info, io.BytesIO(bytes([number]) * info.size))
        folder = tarfile.TarInfo("b")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    kept = artifacts.keep(settings, in_chunks(buffer.getvalue(), size))
    assert kept.refused == ()
    assert [file.path for file in kept.files] == [name.removeprefix("./") for name in names]
    for number, file in enumerate(kept.files):
        assert content(settings, file) == bytes([number]) * file.size_bytes
        assert file.mode == (0o755 if file.path == "program" else 0o640)


def test_what_was_packed_is_read_by_tar_and_comes_back(settings):
    long = "very/" * 30 + "long.txt"
    made = [
        ("a.txt", b"a", 0o644),
        ("bin/run", b"#!/bin/sh\n" * 400, 0o755),
        (long, b"x" * 512, 0o600),
        ("empty", b"", 0o644),
    ]
    stored = []
    for path, data, mode in made:
        key, size = artifacts.put(settings, [data])
        stored.append(artifacts.Stored(path=path, size_bytes=size, sha256=key, mode=mode))
    archive = b"".join(artifacts.pack(settings, stored))
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        found = [(info.name, read.extractfile(info).read(), info.mode) for info in read]
    assert found == made
    assert list(artifacts.keep(settings, [archive]).files) == stored


def test_the_later_one_of_two_files_with_one_name_counts(settings):
    kept = artifacts.keep(settings, [member("a", b"old") + member("a", b"new") + END])
    assert [content(settings, file) for file in kept.files] == [b"new"]


# --- the store ------------------------------------------------------------------------------------------------------


def test_the_same_content_is_stored_once(settings, tmp_path):
    (tmp_path / "file").write_bytes(b"same")
    one, other = artifacts.put(settings, [b"sa", b"me"]), artifacts.put(settings, tmp_path / "file")
    assert one == other == ("0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5", 4)
    assert len(files_below(settings.artifacts)) == 1


def test_threads_may_store_the_same_content_at_once(settings):
    threads = [threading.Thread(target=artifacts.put, args=(settings, [b"same" * 1000])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files_below(settings.artifacts)) == 1


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "a" * 63, "A" * 64, "g" * 64, "%2e%2e", "\0", "a" * 64 + "\n"])
def test_only_a_key_is_a_key(settings, key):
    with pytest.raises(NotFound):
        artifacts.get(settings, key)


def test_a_store_that_can_not_be_written_says_so(settings):
    settings.home.mkdir()
    settings.artifacts.write_text("a file")
    with pytest.raises(Unavailable, match="can not be stored"):
        artifacts.put(settings, [b"x"])


def test_a_source_that_breaks_leaves_nothing_behind(settings):
    def breaks():
        yield b"half"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        artifacts.put(settings, breaks())
    assert files_below(settings.artifacts) == []


# --- on record ------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(db):
    story = Story(db)
    run = story.accept(stage("unit"), stage("next", "unit"))
    lease, _ = story.begin()
    return story, run, lease


def stored(settings, *paths):
    found = []
    for path in paths:
        key, size = artifacts.put(settings, [path.encode()])
        found.append(artifacts.Stored(path=path, size_bytes=size, sha256=key))
    return found


def test_artifacts_are_found_by_run_and_by_stage(db, settings, begun):
    story, run, lease = begun
    artifacts.record(lease, 1, stored(settings, "b.txt", "a.txt"), keep_seconds=60)
    found = artifacts.of_run(db, run.id)
    assert [(one.path, one.stage, one.size_bytes) for one in found] == [("a.txt", "unit", 5), ("b.txt", "unit", 5)]
    assert artifacts.of_stage(db, story.stage(run, "unit").id) == found
    assert artifacts.of_stage(db, story.stage(run, "next").id) == []


def test_recorded_again_after_a_crash_the_later_recording_counts(db, settings, begun):
    _, run, lease = begun
    artifacts.record(lease, 1, stored(settings, "old", "both"), keep_seconds=None)
    runs.record_artifacts(lease, 1, stored(settings, "both", "new"), keep_seconds=None)
    assert [one.path for one in artifacts.of_run(db, run.id)] == ["both", "new"]


def test_names_that_are_not_utf_8_are_recorded_legibly_and_once(db, settings, begun):
    _, run, lease = begun
    artifacts.record(
        lease,
        1,
        stored(settings, "ok")
        + [artifacts.Stored(path=f"caf{byte}", size_bytes=1, sha256="0" * 64) for byte in ("\udce9", "\udce8")],
        keep_seconds=None,
    )
    assert [one.path for one in artifacts.of_run(db, run.id)] == ["caf\N{REPLACEMENT CHARACTER}", "ok"]


def test_whoever_lost_the_lease_records_nothing(db, settings, begun):
    _, run, lease = begun
    with db.write() as tx:
        queue.withdraw(tx, kind="stage", ref=lease.ref)
    with pytest.raises(LeaseLost):
        artifacts.record(lease, 1, stored(settings, "x"), keep_seconds=None)
    assert artifacts.of_run(db, run.id) == []


def test_artifacts_expire_and_their_contents_with_them(db, settings, begun, clock):
    story, run, lease = begun
    artifacts.record(lease, 1, stored(settings, "short", "shared"), keep_seconds=60)
    runs.finish(lease, SUCCEEDED)
    other, _ = story.begin()
    artifacts.record(other, 1, stored(settings, "shared", "long"), keep_seconds=10_000)
    assert artifacts.expire(db, settings) == 0
    clock.leap(7000)
    assert artifacts.expire(db, settings) == len("short")
    assert [(one.stage, one.path) for one in artifacts.of_run(db, run.id)] == [("next", "long"), ("next", "shared")]
    assert len(files_below(settings.artifacts)) == 2
    for one in artifacts.of_run(db, run.id):
        assert content(settings, one) == one.path.encode()


def test_a_content_whose_row_is_under_way_is_not_swept(db, settings):
    artifacts.put(settings, [b"just written"])
    assert artifacts.sweep(db, settings) == 0
    assert artifacts.sweep(db, settings, grace_seconds=-5) == len(b"just written")


def test_what_a_crash_left_over_is_swept(db, settings, clock):
    artifacts.put(settings, [b"without a row"])
    (settings.artifacts / ".draft-1-1").write_bytes(b"half")
    (settings.artifacts / "ab").mkdir(exist_ok=True)
    (settings.artifacts / "ab" / "not ours").write_bytes(b"kept")
    clock.leap(7200)
    artifacts.sweep(db, settings)
    assert [path.name for path in files_below(settings.artifacts)] == ["not ours"]


def test_a_run_that_is_removed_takes_its_artifacts_rows_along(db, settings, begun):
    from pipeline.schema import history, stages

    _, run, lease = begun
    artifacts.record(lease, 1, stored(settings, "x"), keep_seconds=None)
    with db.write() as tx:
        tx.execute(stages.delete().where(stages.c.run_id == run.id))
        assert tx.execute(select(table.c.id)).all() == []
        assert tx.execute(select(history.c.id)).all() != []
