"""Turn what the builder complained of into an error of ours: the instruction, its line, and whose news it is.

A failing instruction is the author's; a base image that can not be fetched, a full disk or an absent
engine is the machine's.
"""

from __future__ import annotations

import re

from pipeline.errors import PipeError, StageFailed, Unavailable
from runners.buildkit import Progress, Step
from runners.process import Completed

_WHERE = re.compile(r"^(?P<file>\S.*):(?P<line>\d+)$")
_EXIT = re.compile(r"exit code: (\d+)")
_PARSE = re.compile(r"dockerfile parse error(?: on)? line (\d+)")
_MACHINE = (  # what it says, cause, hint
    (r"no space left on device", "errored", "Free some: `pipe gc` removes what is no longer needed."),
    (
        r"cannot connect to the docker daemon|error during connect|failed to dial|connection refused.*docker\.sock"
        r"|error reading from server|closed network connection|no builder .* found",
        "runner_lost",
        "Is the Docker Engine running? `pipe doctor` looks.",
    ),
    (
        r"failed to resolve source metadata|pull access denied|failed to do request|manifest unknown|toomanyrequests"
        r"|failed to fetch anonymous token|failed to authorize|unexpected status from HEAD request",
        "image_pull",
        "Is its name right, can this machine reach its registry, and is `docker login` done?",
    ),
    (
        r"multiple platforms feature is currently not supported|multi-platform build is not supported",
        "errored",
        "Several `platforms` need the engine's containerd image store; `pipe doctor` says how to turn it on.",
    ),
    (r"invalid progress mode|unknown flag", "errored", "This buildx is too old: 0.13 or newer is needed."),
    (r"context deadline exceeded|i/o timeout|TLS handshake", "errored", "Is the network of this machine in order?"),
)
_AUTHORS = (
    (r"secret \S+: not found", "Name it under `secrets` of the stage's `build`."),
    (r"target stage .* could not be found", "`target` names a stage of the Dockerfile: FROM ... AS name."),
    (r": not found$", "Is it committed or new here, and not left out by .dockerignore?"),
)


def error_of(done: Completed, progress: Progress, dockerfile: str) -> PipeError:
    """Return the error that tells why a build did not succeed."""
    said = _last(progress.complaint) or done.complaint
    for pattern, cause, hint in _MACHINE:
        if re.search(pattern, said, re.IGNORECASE):
            return Unavailable(f"the image can not be built: {_plain(said)}", hint=hint, cause=cause)
    step = next((step for step in progress.steps.values() if step.error and step.number), None)
    hint = next((hint for pattern, hint in _AUTHORS if re.search(pattern, said)), "")
    code = _EXIT.search(said)
    where = _where(progress.complaint, said, dockerfile)
    if step and code:
        hint = hint or (
            "It was killed: more memory may be needed." if code[1] == "137" else "Its last output is above."
        )
        return StageFailed(f"{where}: `{_short(step)}` ended with exit code {code[1]}", hint=hint, code=int(code[1]))
    return StageFailed(f"{where}: {_plain(said)}", hint=hint or "The lines around it are above.")


def excerpt(progress: Progress) -> list[str]:
    """Return the lines of the Dockerfile around the failing instruction, as the builder shows them."""
    lines = [line for line in progress.complaint if not line.startswith("ERROR: ")]
    begin = next((n for n, line in enumerate(lines) if _WHERE.match(line)), None)
    return [] if begin is None else [line for line in lines[begin:] if set(line) != {"-"}]


def _last(lines: list[str]) -> str:
    return next((line.removeprefix("ERROR: ") for line in reversed(lines) if line.startswith("ERROR: ")), "")


def _where(lines: list[str], said: str, dockerfile: str) -> str:
    parse = _PARSE.search(said)
    if parse:
        return f"{dockerfile}:{parse[1]}"
    match = next((match for line in lines if (match := _WHERE.match(line))), None)
    return f"{dockerfile}:{match['line']}" if match else dockerfile


def _plain(said: str) -> str:
    return re.sub(r"(//)[^/@\s]*@", r"\1", said.removeprefix("failed to solve: "))


def _short(step: Step) -> str:
    text = " ".join(step.text.split())
    return text if len(text) <= 120 else text[:117] + "..."
