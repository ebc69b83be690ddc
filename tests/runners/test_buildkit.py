"""The builder's command is a value without secrets, and its report is read whatever its layout."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pipeline.errors import Unavailable
from runners import build_failure, buildkit, process
from tests.runners.stand import settings_in


def test_the_command_says_everything_and_no_secret():
    build = buildkit.Build(
        context=Path("/w/app"),
        dockerfile=Path("/w/app/Dockerfile"),
        tag="pipewright/x/hello/image:main",
        target="runtime",
        args={"B": "2", "A": "one two"},
        labels={"l": "v"},
        secrets={"TOKEN": "hunter2"},
        ca_bundle="/etc/ca.crt",
        platforms=("linux/amd64", "linux/arm64"),
        cache_space="space",
        cache_from=("registry.example/a:b",),
        inline_cache=True,
        cache=False,
    )
    assert buildkit.command("/p/docker-buildx", build, image_id_file=Path("/w/id")) == (
        "/p/docker-buildx", "build", "--builder=default", "--load", "--progress=rawjson", "--provenance=false",
        "--sbom=false", "--file=/w/app/Dockerfile", "--iidfile=/w/id", "--tag=pipewright/x/hello/image:main",
        "--target=runtime", "--platform=linux/amd64,linux/arm64", "--no-cache", "--label=l=v", "--build-arg=A=one two",
        "--build-arg=B=2", "--build-arg=BUILDKIT_CACHE_MOUNT_NS=space", "--build-arg=BUILDKIT_INLINE_CACHE=1",
        "--secret=id=TOKEN,env=PIPE_SECRET_TOKEN", "--secret=id=ca_bundle,src=/etc/ca.crt",
        "--cache-from=type=registry,ref=registry.example/a:b", "--", "/w/app",
    )  # fmt: skip


def test_secrets_go_by_environment_under_names_that_mean_nothing_to_the_builder(tmp_path, monkeypatch):
    monkeypatch.setenv("BUILDX_BUILDER", "other")
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    build = buildkit.Build(context=tmp_path, dockerfile=tmp_path / "D", tag="t", secrets={"PATH": "/evil", "T": "s"})
    env = buildkit.environment(settings_in(tmp_path), build, "unix:///x.sock")
    assert env["PATH"] != "/evil"
    assert (env["PIPE_SECRET_PATH"], env["PIPE_SECRET_T"], env["DOCKER_HOST"]) == ("/evil", "s", "unix:///x.sock")
    assert not {"BUILDX_BUILDER", "DOCKER_CONTEXT"} & env.keys()


def test_the_plugin_is_found_where_docker_finds_it(tmp_path):
    def put(folder: Path) -> str:
        folder.mkdir(parents=True)
        (folder / "docker-buildx").write_text("#!/bin/sh\n")
        (folder / "docker-buildx").chmod(0o755)
        return str(folder / "docker-buildx")

    extra = put(tmp_path / "extra")
    (tmp_path / "home/.docker").mkdir(parents=True)
    (tmp_path / "home/.docker/config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(tmp_path / "extra")]}))
    env = {"HOME": str(tmp_path / "home"), "PATH": "/nowhere"}
    assert buildkit.program(env) == extra
    own = put(tmp_path / "home/.docker/cli-plugins")
    assert buildkit.program(env) == own
    assert buildkit.program(env | {"DOCKER_CONFIG": str(tmp_path / "none")}) not in (own, extra)


def test_a_missing_plugin_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(buildkit, "_PLUGIN_FOLDERS", ())
    with pytest.raises(Unavailable, match="buildx, which is not installed") as caught:
        buildkit.program({"HOME": str(tmp_path), "PATH": str(tmp_path)})
    assert "docker-buildx" in caught.value.hint


def status(**what: object) -> dict[str, object]:
    return what


def vertex(digest: str, name: str, **more: object) -> dict[str, object]:
    return {"digest": digest, "name": name, **more}


BEGIN, END = "2026-11-21T01:37:39.5Z", "2026-11-21T01:37:41.25Z"
STORY = [
    status(vertexes=[vertex("a", "[internal] load build definition from Dockerfile", started=BEGIN)]),
    status(vertexes=[vertex("b", "[runtime 2/3] COPY a .", started=BEGIN, completed=BEGIN, cached=True)]),
    status(vertexes=[vertex("c", "[linux/amd64 runtime 3/3] RUN make", started=BEGIN)]),
    status(statuses=[{"id": "transferring context:", "vertex": "x", "current": 4096}]),
    status(logs=[{"vertex": "c", "stream": 1, "data": base64.b64encode(b"one\ntw").decode()}]),
    status(vertexes=[vertex("d", "[test 2/2] RUN test", started=BEGIN)]),
    status(logs=[{"vertex": "d", "stream": 2, "data": base64.b64encode(b"other\n").decode()}]),
    status(logs=[{"vertex": "c", "stream": 1, "data": base64.b64encode(b"o\nthree").decode()}]),
    status(vertexes=[vertex("c", "[linux/amd64 runtime 3/3] RUN make", started=BEGIN, completed=END)]),
    status(warnings=[{"vertex": "c", "short": base64.b64encode(b"careful").decode()}]),
]


@pytest.mark.parametrize("indent", [None, 2])
def test_the_report_is_read_pretty_printed_or_a_line_each(indent):
    said, heard = [], []
    progress = buildkit.Progress(said.append, lambda stream, data: heard.append((stream, data)))
    for entry in STORY:
        for line in json.dumps(entry, indent=indent).splitlines():
            progress.hear("err", line.encode())
    progress.finish()
    assert heard == [("out", b"one\n"), ("err", b"other\n"), ("out", b"two\n"), ("out", b"three\n")]
    make, test = "[linux/amd64 runtime 3/3] RUN make", "[test 2/2] RUN test"
    assert said == [make, test, test, make, "warning: careful"] or said == [make, test, make, "warning: careful"]
    step = progress.steps["c"]
    assert (step.stage, step.number, step.text, step.seconds) == ("linux/amd64 runtime", 3, "RUN make", 1.75)
    assert progress.steps["b"].cached
    assert progress.context_bytes == 4096


SOLVE = "failed to solve:"
FAILURES = [
    (
        [
            "Dockerfile:4",
            "-----",
            "  4 | >>> RUN false",
            "-----",
            f"ERROR: {SOLVE} process x did not complete successfully: exit code: 7",
        ],
        1,
        "image/Dockerfile:4: `RUN false` ended with exit code 7",
        "output",
    ),
    (
        [f"ERROR: {SOLVE} dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)"],
        1,
        "image/Dockerfile:2: dockerfile parse error on line 2: unknown instruction",
        "lines around",
    ),
    (
        [f"ERROR: {SOLVE} nope/x:1: failed to resolve source metadata for docker.io/nope/x:1: no such host"],
        3,
        "can not be built: nope/x:1: failed to resolve source metadata",
        "docker login",
    ),
    (
        [f'ERROR: {SOLVE} failed to compute cache key: failed to calculate checksum of ref a::b: "/nofile": not found'],
        1,
        "/nofile",
        "dockerignore",
    ),
    ([f"ERROR: {SOLVE} write /x: no space left on device"], 3, "no space left", "pipe gc"),
    (
        ["ERROR: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"],
        3,
        "Cannot connect",
        "doctor",
    ),
    ([f"ERROR: {SOLVE} secret TOKEN: not found"], 1, "secret TOKEN", "secrets"),
    ([f'ERROR: {SOLVE} target stage "x" could not be found'], 1, "target stage", "AS name"),
    (
        ["ERROR: Multiple platforms feature is currently not supported for docker driver."],
        3,
        "Multiple platforms",
        "containerd",
    ),
    ([f"ERROR: {SOLVE} https://bot:hunter2@host/x: failed to do request"], 3, "https://host/x", "login"),
]


@pytest.mark.parametrize(("lines", "code", "message", "hint"), FAILURES)
def test_a_failure_says_whose_news_it_is_and_where(lines, code, message, hint):
    progress = buildkit.Progress(lambda text: None, lambda stream, data: None)
    failing = vertex("c", "[2/2] RUN false", started=BEGIN, completed=END, error="exit code: 7")
    progress.hear("err", json.dumps(status(vertexes=[failing])).encode())
    for line in lines:
        progress.hear("err", line.encode())
    error = build_failure.error_of(process.Completed(("x",), 1, b"", b""), progress, "image/Dockerfile")
    assert (error.exit_code, message in error.message, hint in error.hint) == (code, True, True), str(error)
    assert "hunter2" not in str(error)
