"""Builds with the real builder: images by id, the cache told apart, secrets nowhere, errors with their line."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import settings as settings_module
from pipeline.errors import StageFailed, Unavailable
from pipeline.model import Event, Status
from runners import process, repository
from runners.stages import build as build_stage
from tests.runners.stand import git
from tests.runners.yard import BASE, yard

pytestmark = pytest.mark.docker


@pytest.fixture
def place(tmp_path):
    with yard(tmp_path) as made:
        made.write({
            "Dockerfile": f"FROM {BASE}\nWORKDIR /srv\nCOPY conf conf\nRUN cat conf/* > all; echo {uuid.uuid4()} > id\n"
            'COPY app.py .\nCMD ["cat", "app.py"]\n',
            "app.py": "print(1)\n", "conf/a": "a\n", "conf/b": "b\n",
        })  # fmt: skip
        git(made.project, "add", "-A")
        git(made.project, "commit", "-qm", "app")
        yield made


def hits(outcome) -> list[bool]:
    return [step["hit"] for step in outcome.result["cache"]["steps"]]


def docker(*args: str) -> str:
    done = process.run(["docker", *args], env=settings_module.passed_on())
    assert done.ok, done
    return done.text


def command_lines() -> bytes:
    """Return what every process of this machine was started with."""
    found = []
    for process_folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append((process_folder / "cmdline").read_bytes())
    return b"\n".join(found)


def test_a_build_gives_an_image_id_and_the_next_one_the_same(place):
    first = place.build()
    assert first.status == Status.SUCCEEDED
    assert place.engine.image_id(first.image.id) == first.image.id
    assert "first build here" in place.said
    assert "[4/5] RUN" in place.said or "[stage-0 4/5] RUN" in place.said
    second = place.build()
    assert second.image == first.image
    assert "cache: 5 of 5 instructions HIT" in place.said
    assert second.result["cache"]["saved_seconds"] > 0


def test_a_changed_line_is_named_and_costs_one_layer(place):
    place.build()
    place.write({"app.py": "print(2)\n"})
    outcome = place.build()
    assert hits(outcome) == [True, True, True, True, False]
    assert "MISS  COPY app.py ." in place.said
    assert "(app.py changed)" in place.said
    assert docker("run", "--rm", "--network=none", outcome.image.id) == "print(2)"


def test_a_change_in_a_folder_says_which_file_and_what_follows(place):
    place.build()
    place.write({"conf/c": f"{uuid.uuid4()}\n"})
    (place.project / "conf/a").unlink()
    assert hits(place.build()) == [True, True, False, False, False]
    assert "(conf/a, conf/c changed)" in place.said
    assert "(follows from the one above)" in place.said


def test_an_argument_is_named(place):
    place.write({"Dockerfile": f"FROM {BASE}\nARG V=0\nRUN echo $V {uuid.uuid4()} > /v\n"})
    place.build({"args": {"V": "1"}})
    assert place.build({"args": {"V": "1"}}).result["cache"]["hits"] == 2
    outcome = place.build({"args": {"V": "2"}})
    assert hits(outcome) == [True, False]
    assert "(argument V changed)" in place.said


def test_a_branch_falls_back_to_what_the_default_branch_built(place):
    place.build()
    git(place.project, "checkout", "-q", "-b", "feature/x")
    place.write({"app.py": "print(3)\n"})
    place.build()
    assert "(app.py changed)" in place.said
    names = [name for image in place.store.listing({"pipewright.pipeline": "hello"}) for name in image.names]
    mine = sorted(name.rpartition(":")[2] for name in names if place.db.installation[:8] in name)
    assert mine[1] == "main"
    assert mine[0].startswith("feature-x-")


def test_the_images_carry_our_labels_and_nothing_of_the_run(place):
    image = place.build().image
    labels = next(stored.labels for stored in place.store.listing({}) if stored.id == image.id)
    assert labels == {
        "pipewright.installation": place.db.installation, "pipewright.pipeline": "hello", "pipewright.build": "image",
    }  # fmt: skip


def test_a_secret_is_used_and_stays_in_no_layer_history_argument_or_log(place):
    secret = f"hunter-{uuid.uuid4().hex}"
    use = f"cat /run/secrets/TOKEN; wc -c /run/secrets/TOKEN # {uuid.uuid4()}"
    place.write({"Dockerfile": f"FROM {BASE}\nRUN --mount=type=secret,id=TOKEN {use}\n"})
    image = place.build({"secrets": ["TOKEN"]}, secrets={"TOKEN": secret}).image
    assert f"{len(secret)} /run/secrets/TOKEN" in place.said
    assert secret not in place.said
    assert secret not in docker("history", "--no-trunc", image.id) + docker("inspect", image.id)
    saved = process.run(["docker", "save", image.id], env=settings_module.passed_on(), keep_bytes=1 << 30)
    assert saved.ok
    assert secret.encode() not in saved.out
    assert secret.encode() not in b"".join(
        path.read_bytes() for path in place.settings.home.rglob("*") if path.is_file()
    )


def test_the_ca_bundle_is_offered_as_a_secret(place, tmp_path):
    bundle = tmp_path / "ca.crt"
    bundle.write_text("authority")
    place.write(
        {"Dockerfile": f"FROM {BASE}\nRUN --mount=type=secret,id=ca_bundle grep -q authority /run/secrets/ca_bundle\n"}
    )
    place.settings = replace(place.settings, ca_bundle=str(bundle))
    assert place.build().status == Status.SUCCEEDED


def test_a_failing_instruction_shows_line_output_and_exit_code(place):
    place.write({"Dockerfile": f"FROM {BASE}\n\nRUN echo told {uuid.uuid4()}; echo last words >&2; exit 7\n"})
    with pytest.raises(StageFailed, match=r"^Dockerfile:3: `RUN echo told .* ended with exit code 7") as caught:
        place.build()
    assert caught.value.code == 7
    assert ">>> RUN echo told" in place.said
    assert "  last words" in place.said


@pytest.mark.parametrize(
    ("dockerfile", "error", "message"),
    [
        ("FROM BASE\nRUNN x\n", StageFailed, r"Dockerfile:2: .*unknown instruction: RUNN"),
        ("FROM BASE\nCOPY nofile /\n", StageFailed, r"Dockerfile:2: .*nofile.*not found"),
        ("FROM nothing.invalid/base:1\n", Unavailable, "nothing.invalid/base:1"),
        ("FROM BASE\nRUN --mount=type=secret,id=T,required=true true\n", StageFailed, "secret T: not found"),
        ("", StageFailed, "Dockerfile"),
    ],
)
def test_what_can_not_be_built_says_whose_news_it_is(place, dockerfile, error, message):
    place.write({"Dockerfile": dockerfile.replace("BASE", BASE)})
    with pytest.raises(error, match=message):
        place.build()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"dockerfile": "None"}, "there is no Dockerfile None"),
        ({"context": "nowhere"}, "nowhere is not a folder"),
        ({"context": "../.."}, "leads out of the repository"),
        ({"context": "/etc"}, "leads out of the repository"),
        ({"dockerfile": "out"}, "leads out of the repository"),
        ({"context": "away"}, "leads out of the repository"),
    ],
)
def test_context_and_dockerfile_stay_inside_the_repository(place, spec, message):
    (place.project / "out").symlink_to("/etc/passwd")
    (place.project / "away").symlink_to("/etc")
    with pytest.raises(StageFailed, match=message):
        place.build(spec)


def test_target_platform_and_project_folder_are_honoured(place):
    two = f"FROM {BASE} AS one\nRUN false\nFROM {BASE} AS two\nCOPY here /here\n"
    place.write({"sub/Dockerfile": two, "sub/here": "x"})
    outcome = place.build({"target": "two", "platforms": ["linux/amd64"]}, project="sub")
    assert outcome.status == Status.SUCCEEDED
    assert [step["stage"].split()[-1] for step in outcome.result["cache"]["steps"]] == ["two", "two"]


def test_cache_mounts_are_kept_and_are_apart_by_trust(place):
    script = f"touch /c/{uuid.uuid4().hex} $(echo found: $(ls /c) >&2) # $N"
    place.write({"Dockerfile": f"FROM {BASE}\nARG N\nRUN --mount=type=cache,target=/c {script}\n"})

    def found(number: str, **more: object) -> str:
        place.build({"args": {"N": number}}, **more)
        return next(line for line in place.said.splitlines() if line.startswith("found:"))

    assert found("1") == "found:"
    assert len(found("2")) > len("found: ") + 30
    fork = replace(repository.event(place.project), trusted=False, kind="pull_request", number=7)
    assert found("3", event=fork) == "found:"
    names = [name for image in place.store.listing({"pipewright.pipeline": "hello"}) for name in image.names]
    assert any(":untrusted-7-" in name for name in names if place.db.installation[:8] in name)


def test_a_cancelled_build_ends_with_all_that_it_runs(place):
    marker = uuid.uuid4().hex
    place.write({"Dockerfile": f"FROM {BASE}\nRUN echo up; sleep 600 # {marker}\n"})
    with place.work({"image": {"build": {}}}, "image") as work:

        def stop_when_up() -> None:
            from pipeline import logs

            for line in logs.follow(work.settings, work.attempt.id, ended=work.cancelled.is_set):
                if line.text == "up":
                    work.cancelled.set()

        watcher = threading.Thread(target=stop_when_up)
        watcher.start()
        outcome = build_stage.execute(work)
        watcher.join()
    assert outcome.status == Status.CANCELLED
    until = time.monotonic() + 30
    while marker.encode() in command_lines():
        assert time.monotonic() < until, "the instruction still runs"
        threading.Event().wait(0.05)


def test_the_event_of_a_branch_of_odd_letters_makes_a_legal_name(place):
    event = Event(kind="push", repository=str(place.project), ref="refs/heads/Ä/$(x)", branch="Ä/$(x)",
                  sha=git(place.project, "rev-parse", "HEAD"), dirty=True)  # fmt: skip
    assert place.build(event=event).status == Status.SUCCEEDED
