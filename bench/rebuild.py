"""What a rebuild inside a run adds to the builder's own time on the same context: nothing changed, one line changed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as counting
from statistics import median

from bench.measure import Row, demand, difference, rounds, run
from bench.project import IMAGE, Project

DEFINITION = "version: 1\nname: rebuild\nstages:\n  image:\n    build: {}\n"
DOCKERFILE = f'FROM {IMAGE}\nWORKDIR /srv\nCOPY parts parts\nRUN cat parts/* > all\nCOPY app.py .\nCMD ["true"]\n'
NUMBERS = counting(1)


def measure(count: int = 9) -> list[Row]:
    """Return milliseconds added by us, medians of paired differences."""
    files = {"Dockerfile": DOCKERFILE, "app.py": "print(0)\n"}
    files |= {f"parts/{n:03}.txt": f"part {n}\n" * 50 for n in range(200)}
    with Project(DEFINITION, files) as project:
        same = rounds(_ways(project, lambda: None), count=count)
        app = project.folder / "app.py"
        changed = rounds(_ways(project, lambda: app.write_text(f"print({next(NUMBERS)})\n")), count=count)
    return [_row("nothing changed", same), _row("one line changed", changed)]


def _ways(project: Project, change: Callable[[], object]) -> dict[str, Callable[[], float]]:
    builder = ["docker", "buildx", "build", "--quiet", "--load", str(project.folder)]

    def alone() -> float:
        change()
        return demand(run(builder), "docker buildx build").seconds

    def ours() -> float:
        change()
        return project.stage_seconds("image")

    return {"builder": alone, "pipe": ours}


def _row(what: str, figures: dict[str, list[float]]) -> Row:
    detail = {"builder_ms": 1000 * median(figures["builder"]), "pipe_ms": 1000 * median(figures["pipe"])}
    return Row(f"rebuild, {what}: added", 1000 * difference(figures, "pipe", "builder"), "ms", 40, detail=detail)
