"""Promotions told as stories: runs whose images behave in a certain way, and a worker for their promotions.

The world is the dummy's file or a real engine; the database is the test's. `work_until_death` is the same worker as
a process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import environments, faults, promotions, queue, runs
from pipeline import settings as settings_module
from pipeline.db import Database
from pipeline.environments import Standing
from pipeline.errors import LeaseLost, NotFound
from pipeline.model import Image, Outcome, Run, Status
from pipeline.promotions import Promotion
from pipeline.settings import Settings
from runners import ground, promotion, releases, retirement
from runners.cleanup import Cleanup
from runners.ground import Ground
from runners.hands import Hands, Source
from runners.stages.promote import policy_of
from tests.pipeline.story import Planned, plan, stage

QUICK = {"bake": 0.0, "drain": 0.5, "keep_old": 600.0}
WEB = {"port": 8000, "health": {"http": "/healthz", "interval": 0.2, "timeout": 3.0}}


@dataclass
class Theatre:
    """One application in one world, and the record of it."""

    db: Database
    settings: Settings
    spec: dict[str, Any]  # of the environment `test`
    engine: Any = None
    app: dict[str, Any] = field(default_factory=lambda: {"processes": {"web": dict(WEB)}})
    name: str = "worker"
    real: bool = False
    secrets: Any = lambda run, names: {name: f"value of {name}" for name in names}

    @property
    def hands(self) -> Hands:
        """Return what a worker has."""
        return Hands(
            settings=self.settings,
            db=self.db,
            engine=self.engine,
            name=self.name,
            scope="",
            secrets=self.secrets,
            source=lambda run: Source(top=Path("/"), project="", workspaces=Path("/")),
            cleanup=Cleanup(),
            sandboxes=None,  # type: ignore[arg-type]  # for stages that run commands
        )

    def run(self, behaviour: str = "ok", *, by: str = "ada", branch: str = "main", **more: Any) -> Run:
        """Accept a run whose stage `push` has made an image that behaves so, and whose stage `promote` waits."""
        app = more.pop("app", self.app)
        if self.real:
            app = with_environment(app, {"BEHAVIOUR": behaviour})
        stages: list[Planned] = [stage("push", kind="push"), stage("unit"), stage("promote", "push", kind="promote")]
        run = runs.accept(self.db, plan(*stages, app=app, branch=branch), by=by, scope="", alive=lambda scope: True)
        while lease := queue.claim(self.db, owner="worker", kinds=("stage",)):
            _, begun, _ = runs.begin(lease, worker="worker")
            outcome = Outcome(status=Status.SUCCEEDED)
            if begun.name == "push":
                outcome = Outcome(status=Status.SUCCEEDED, image=self._image(run, behaviour))
            if begun.name == "promote":
                outcome = Outcome(status=Status.WAITING)
            runs.finish(lease, outcome)
        return runs.get(self.db, run.id)

    def _image(self, run: Run, behaviour: str) -> Image:
        if not self.real:
            return Image(id=f"sha256:{run.id:064x}#{behaviour}")
        found = self.engine.image_id("pipewright/python:3.11")
        assert found
        return Image(id=found)

    def request(self, run: Run, name: str = "test", **policy: Any) -> Promotion:
        """Ask for a run to be put live, as its stage would."""
        standing = ground.ensure(self.db, self.settings, "shop", name, self.spec)
        release = releases.of_run(run, runs.stages(self.db, run.id), self.spec)
        stage_id = next(s.id for s in runs.stages(self.db, run.id) if s.name == "promote") if name == "test" else None
        made = promotions.request(
            self.db,
            standing,
            run,
            release=releases.to_data(release),
            policy={**policy_of(self.spec), **policy},
            by=run.event.by,
            stage_id=stage_id,
        )
        with self.db.write() as tx:
            if made.status == "approved":
                queue.wake(tx, kind="promotion", ref=made.id)  # as the end of the stage's attempt does
        return made

    def promote(self, behaviour: str = "ok", *, expect: str = "live", **more: Any) -> Promotion:
        """Take a run all the way, or to where it is expected to end."""
        made = self.request(self.run(behaviour, **more))
        self.work()
        made = self.get(made)
        assert made.status == expect, f"{made.status} at {made.phase}: {made.error}"
        return made

    def work(self, *, kinds: tuple[str, ...] = ("promotion",)) -> int:
        """Do every job that is due, one after the other; return how many."""
        doers = {"promotion": promotion.do, "retire": retirement.do}
        count = 0
        while lease := queue.claim(self.db, owner=self.name, kinds=kinds, lease_seconds=120.0):
            try:
                doers[lease.kind](self.hands, lease, threading.Event())
            except LeaseLost:
                pass
            count += 1
        return count

    def get(self, made: Promotion) -> Promotion:
        """Return a promotion as it is now."""
        return promotions.get(self.db, made.id)

    def stage(self, made: Promotion) -> Any:
        """Return the stage that asked for a promotion."""
        assert made.stage_id is not None
        return runs.stage(self.db, made.stage_id)

    @property
    def standing(self) -> Standing:
        """Return the environment as it stands."""
        return environments.get(self.db, "shop", "test")

    @property
    def ground(self) -> Ground:
        """Return the environment's ground."""
        return ground.of(self.hands, self.standing)

    def there(self) -> dict[str, set[int]]:
        """Return which promotions have containers, by colour."""
        found: dict[str, set[int]] = {}
        for instance in self.ground.target.observe(self.ground.place):
            found.setdefault(str(instance.colour), set()).add(instance.promotion)
        return found

    def routed(self) -> str:
        """Return the colour that answers, after checking that record, file and running router agree."""
        seen = self.ground.router.look(self.ground.route)
        assert (self.standing.live_colour, seen.recorded, seen.running) == (seen.running,) * 3, seen
        return str(seen.running) if seen.running else ""

    def is_consistent(self) -> None:
        """Check what must hold whenever nothing is under way: one routed colour, healthy, and no orphan."""
        try:
            standing = self.standing
        except NotFound:
            return
        routed = self.routed()
        there = self.there()
        if not routed:
            assert there == {}, "nothing is live, and containers are there"
            return
        live = promotions.get(self.db, standing.live_promotion or 0)
        assert there[routed] == {live.carrier}
        assert self.ground.router.probe(self.ground.route) == routed
        others = {colour: ids for colour, ids in there.items() if colour != routed}
        warm = promotions.get(self.db, standing.warm_promotion).carrier if standing.warm_promotion else None
        waiting = {p.id for p in promotions.listing(self.db) if p.status in ("requested", "approved") and p.begun}
        assert all(ids <= {warm} | waiting for ids in others.values()), (others, warm)


def with_environment(app: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Return the application with variables added."""
    return {**app, "env": {**app.get("env", {}), **env}}


def work_until_death(home: str, url: str, crash_at: str, real: bool) -> None:
    """Work as a process of its own that dies at a crash point."""
    settings = settings_module.load({"PIPE_HOME": home, "PATH": "/usr/bin:/bin"})
    db = Database.at(url)
    engine = None
    if real:
        from runners.engines.docker import DockerEngine

        engine = DockerEngine(settings, db.installation)
    faults.arm(crash_at)
    Theatre(db, settings, {}, engine=engine, name="child").work(kinds=("promotion", "retire"))
    faults.arm("")
    db.close()
