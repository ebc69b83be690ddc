"""Three sequential one-line stages, whole process, against three `docker run --rm` and the local peers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median

from bench.measure import Ran, Row, demand, ratio, rounds, run
from bench.project import IMAGE, Project

NAMES = ("one", "two", "three")
THREE = "version: 1\nname: three\nstages:\n" + "".join(
    f'  {name}: {{image: "{IMAGE}", run: echo step-{name}}}\n' for name in NAMES
)
COMMANDS = [f"echo step-{n}" for n in range(10)]
TEN = f'version: 1\nname: ten\nstages:\n  ten: {{image: "{IMAGE}", run: [{", ".join(COMMANDS)}]}}\n'
PEER = f'stages: [{", ".join(NAMES)}]\ndefault: {{image: "{IMAGE}"}}\n' + "".join(
    f'{name}: {{stage: {name}, script: ["echo step-{name}"]}}\n' for name in NAMES
)
PEERS = Path(__file__).parent / "peers"


def measure(count: int = 11) -> list[Row]:
    """Return the ratios to the floor: the median of paired, interleaved rounds."""
    with Project(THREE, {".gitlab-ci.yml": PEER}) as project:
        run(["git", "remote", "add", "origin", "https://git.example/bench/three.git"], cwd=project.folder)
        ways = {
            "floor": lambda: sum(_docker_run("echo", f"step-{name}") for name in NAMES),
            "pipe": lambda: _checked(project.pipe("run"), "pipe run"),
        }
        for name, argv in _peers().items():
            ways[name] = lambda argv=argv, name=name: _peer(project, name, argv)
        figures = rounds(ways, count=count)
    rows = [_row(f"three stages: {name}", figures, name, 1.0 if name == "pipe" else None) for name in ways]
    return [*rows[1:], _ten(count)]


def _row(title: str, figures: dict[str, list[float]], name: str, bound: float | None) -> Row:
    detail = {"median_s": median(figures[name]), "floor_s": median(figures["floor"]), "rounds": len(figures[name])}
    return Row(title, ratio(figures, name, "floor"), "x floor", bound, detail={**detail, "load": os.getloadavg()[0]})


def _ten(count: int) -> Row:
    """Return a stage of ten commands, as the run recorded it, over one container that does the same."""
    with Project(TEN) as project:
        floor = " && ".join(COMMANDS)
        ways = {"floor": lambda: _docker_run("sh", "-c", floor), "pipe": lambda: project.stage_seconds("ten")}
        return _row("a stage of ten commands", rounds(ways, count=count), "pipe", 1.2)


def _docker_run(*command: str) -> float:
    return demand(run(["docker", "run", "--rm", IMAGE, *command]), "docker run").seconds


def _peers() -> dict[str, list[str]]:
    """Return the commands of the peers that `bench/peers.sh` has installed."""
    found = {}
    gcil = PEERS / "gcil/bin/gcil"
    if gcil.exists():
        found["gcil"] = [str(gcil), "-p", "-E", "docker", "--privileged", "false"]
    script = PEERS / "npm/node_modules/gitlab-ci-local/dist/index.js"
    node = PEERS / "npm/node_modules/node/bin/node"
    if script.exists() and shutil.which("rsync"):
        policy = ["--pull-policy", "if-not-present", "--helper-image", IMAGE]
        found["gitlab-ci-local"] = [str(node), str(script), *policy]
    return found


def _peer(project: Project, name: str, argv: list[str]) -> float:
    # Both write into the home folder otherwise.
    env = {"XDG_CONFIG_HOME": str(project.home), "HOME": str(project.home)}
    return _checked(run(argv, cwd=project.folder, env=env), name)


def _checked(ran: Ran, what: str) -> float:
    demand(ran, what)
    for name in NAMES:
        if f"step-{name}" not in ran.out:
            raise SystemExit(f"{what} did not print step-{name}, so its figure is void:\n{ran.out[-2000:]}")
    return ran.seconds
