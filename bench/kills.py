"""`kill -9` of `pipe run` during build, test, push and swap, at seeded instants, while the release takes requests.

Each kill is followed by `pipe run --resume`. The ledger counts what must not be: failed requests, answers
of no colour, containers that ran twice, runs that did not end. Load goes to loopback only.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Row, demand
from bench.project import PIPE, Project

STAGES = {"build": "image", "test": "unit", "push": "push", "swap": "release"}
SAMPLE = Path(__file__).parents[1] / "samples/hello"
KILLS = int(os.environ.get("KILLS", "10"))
RATE = 50  # requests a second, whatever the answers take


@dataclass
class Load:
    """An open-model load: every request is sent at its own time and accounted for."""

    port: int
    failures: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    sent: int = 0

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._flow()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _flow(self) -> None:
        waiting: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._stop.is_set():
            task = asyncio.create_task(self._ask())
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*waiting)

    async def _ask(self) -> None:
        self.sent += 1
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
            head, _, body = answer.partition(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0] + b" ":
                raise ValueError(head.split(b"\r\n")[0].decode(errors="replace") or "no answer")
            self.answers[json.loads(body)["colour"]] += 1
        except (OSError, ValueError, TimeoutError, KeyError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")


def measure() -> list[Row]:
    """Return what went wrong, which must be nothing, over all kills."""
    files = {
        str(path.relative_to(SAMPLE)): path.read_text()
        for path in SAMPLE.rglob("*")
        if path.is_file() and not {".pipe", "__pycache__"} & set(path.parts)
    }
    with Project(files.pop("pipe.yml"), files) as project:
        demand(project.pipe("run", "--plain"), "the first run")
        port = _public_port(project, "release")
        with Load(port) as load:
            stories = [_kill(project, what, seed) for what in STAGES for seed in range(KILLS)]
        doubled = _doubled(project)
    detail = {"kills": len(stories), "requests": load.sent, "bound_3_over_n": 3 / max(1, load.sent)}
    lost = [story for story in stories if story]
    for line in [*lost, *load.failures[:5]]:
        print(f"  {line}")
    return [
        Row("kills: requests failed", float(len(load.failures)), "requests", 0, detail=detail),
        Row("kills: runs not resumed to the end", float(len(lost)), "runs", 0),
        Row("kills: containers that ran twice", float(doubled), "stages", 0),
    ]


def _kill(project: Project, what: str, seed: int) -> str:
    """Kill one run while a stage runs, resume it, and return what is wrong, or nothing."""
    (project.folder / "note.txt").write_text(f"{what} {seed} {time.time()}\n")
    app = project.folder / "app.py"
    app.write_text(app.read_text() + f"# {what} {seed}\n")
    env = {**os.environ, **project.env}
    log = project.home / "kill.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [str(PIPE), "run", "--plain"], cwd=project.folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    number = _await_stage(project, STAGES[what], child)
    time.sleep(random.Random(f"{what}-{seed}").uniform(0, {"build": 0.4, "test": 0.6, "push": 0.3}.get(what, 9.0)))
    child.send_signal(signal.SIGKILL)
    ended = child.wait()
    if ended == 0:  # it was quicker than the kill: a run like any other
        return ""
    resumed = project.pipe("run", "--resume", "--plain")
    (status,) = _query(project, "SELECT status FROM runs WHERE id = ?", number)[0]
    if status != "succeeded":
        return f"{what} {seed}: run {number} is {status} (exit {resumed.code}): {resumed.out[-600:]}"
    return ""


def _await_stage(project: Project, stage: str, child: subprocess.Popen[bytes]) -> int:
    before = _query(project, "SELECT max(id) FROM runs")[0][0] or 0
    while child.poll() is None:
        found = _query(
            project,
            "SELECT r.id FROM runs r JOIN stages s ON s.run_id = r.id WHERE r.id >= ? AND s.name = ?"
            " AND s.status IN ('running', 'waiting', 'succeeded') AND r.status IN ('running', 'waiting')",
            before,
            stage,
        )
        if found:
            return int(found[0][0])
        time.sleep(0.005)
    raise SystemExit(f"the run ended before {stage}:\n{(project.home / 'kill.log').read_text()[-2000:]}")


def _query(project: Project, sql: str, *values: object) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{project.home / 'pipewright.db'}?mode=ro", uri=True, timeout=10) as connection:
        rows = connection.execute(sql, values).fetchall()
    connection.close()
    return rows


def _doubled(project: Project) -> int:
    """Count stages of which more than one attempt ended well: something was done twice."""
    sql = (
        "SELECT count(*) FROM (SELECT 1 FROM attempts WHERE status = 'succeeded' GROUP BY stage_id HAVING count(*) > 1)"
    )
    return int(str(_query(project, sql)[0][0]))


def _public_port(project: Project, environment: str) -> int:
    return int(str(_query(project, "SELECT port FROM environments WHERE name = ?", environment)[0][0]))
