"""How long the command takes to start: `pipe --version`, and `pipe lint` of five hundred stages."""

from __future__ import annotations

import sys
from statistics import median

from bench.measure import Row, demand, rounds, run
from bench.project import IMAGE, PIPE, Project


def _stage(number: int) -> str:
    return (
        f"  stage-{number}:\n    needs: [{f'stage-{number - 1}' if number else ''}]\n    image: {IMAGE}\n"
        f"    run:\n      - echo one\n      - echo two\n    env: {{NUMBER: {number}, MODE: fast}}\n    timeout: 5m\n"
    )


def measure(count: int = 15) -> list[Row]:
    """Return milliseconds, medians, with bare Python in the same rounds."""
    with Project("version: 1\nname: large\nstages:\n" + "".join(map(_stage, range(500)))) as project:
        lint = demand(project.pipe("lint"), "pipe lint")
        ways = {
            "python": lambda: run([sys.executable, "-I", "-c", "pass"]).seconds,
            "version": lambda: demand(run([str(PIPE), "--version"]), "pipe --version").seconds,
            "lint": lambda: demand(project.pipe("lint"), "pipe lint").seconds,
        }
        figures = rounds(ways, count=count, warm=2)
    ms = {name: 1000 * median(values) for name, values in figures.items()}
    detail = {"bare_python_ms": ms["python"]}
    return [
        Row("pipe --version", ms["version"], "ms", 45, detail=detail),
        Row("pipe lint, 500 stages", ms["lint"], "ms", 150, detail={**detail, "peak_mb": lint.peak_mb}),
    ]
