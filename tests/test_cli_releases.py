"""Commands about what is live and what waits for a decision, on a real database without an engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from pipeline import environments, promotions, runs
from pipeline.environments import Standing
from pipeline.errors import Conflict, NotAllowed, NotFound
from pipeline.model import Event, PromotionStatus
from pipeline.promotions import Promotion
from pipeline.schema import environments as table
from pipeline.schema import promotions as promotions_table
from tests.test_cli_records import Plan, Shop

APPROVAL = {"rules": [{"role": "release-manager", "count": 1}], "self_approval": True}


class Market(Shop):
    """A shop with a release environment, to which runs are promoted on paper: nothing is carried out."""

    def environment(self, name: str = "release", application: str = "shop") -> Standing:
        return environments.ensure(self.db, self.settings, application, name, {"public": {"port": 8082}})

    def ask(self, standing: Standing, number: int, **approval: Any) -> Promotion:
        digest = f"registry.example/shop@sha256:{number:064x}"
        release = {"images": {"web": digest}, "config_hash": "c", "commit": f"{number:040x}", "application": "shop"}
        policy = {"approval": approval} if approval else {}
        run = runs.get(self.db, number)
        return promotions.request(
            self.db, standing, run, release=release, policy=policy, by="raj", scope="elsewhere:1:1"
        )

    def put_live(self, standing: Standing, made: Promotion) -> None:
        """Record what a worker would, once the switch was seen."""
        with self.db.write() as tx:
            mine = promotions_table.c.id == made.id
            tx.execute(update(promotions_table).where(mine).values(status="live", phase="done", colour="green"))
            values = {"live_colour": "green", "live_promotion": made.id, "live_since": self.db.now() - 3.5 * 86400}
            tx.execute(update(table).where(table.c.id == standing.id).values(**values))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    monkeypatch.chdir(tmp_path)
    made = Market(tmp_path / "home")
    yield made
    made.db.close()


def test_before_the_first_promotion_env_says_how_one_is_made(shop: Market) -> None:
    assert "`pipe promote RUN ENV`" in shop.pipe("env").output


def test_env_tells_what_is_live_since_when_and_by_which_run(shop: Market) -> None:
    release = shop.environment()
    shop.put_live(release, shop.ask(release, shop.accept()))
    line = shop.pipe("env").output.splitlines()[1]
    told = [
        "shop",
        "release",
        "!",
        "proxy",
        "is",
        "down",
        "#1",
        "00000000",
        "3",
        "days",
        "ago",
        "http://127.0.0.1:8082",
    ]
    assert line.split() == told  # no proxy runs here, and that is said
    assert "deploy #1" in shop.pipe("env", "release").output
    (told,) = map(json.loads, shop.pipe("env", "--json").output.splitlines())
    assert (told["run"], told["colour"], told["url"]) == (1, "green", "http://127.0.0.1:8082")


def test_of_two_releases_that_of_the_folder_is_meant(shop: Market, tmp_path: Path) -> None:
    shop.environment()
    with shop.db.write() as tx:
        tx.execute(table.insert().values(application="other", name="release", spec={}))
    assert len(shop.pipe("env", "release").output.splitlines()) == 3
    (tmp_path / "pipe.yml").write_text("version: 1\nname: shop\n")
    assert "other" not in shop.pipe("env", "release").output


def test_a_misspelt_environment_is_answered_with_the_one_that_was_meant(shop: Market) -> None:
    shop.environment()
    with pytest.raises(NotFound, match=r"nothing has ever been promoted to `relase`\n.*did you mean `release`"):
        shop.pipe("rollback", "relase")


def test_what_waits_is_listed_with_its_card(shop: Market) -> None:
    assert shop.pipe("approve").output == "nothing waits for a decision\n"
    release = shop.environment()
    shop.ask(release, shop.accept(), **APPROVAL)
    text = shop.pipe("approve").output
    assert "shop → release  waits for a decision (run #1)" in text
    assert "nothing is live" in text
    assert "1 of release-manager" in text
    assert "pipe approve 1" in text


def test_an_approval_names_a_digest_or_nothing_happens(shop: Market) -> None:
    shop.ask(shop.environment(), shop.accept(), **APPROVAL)
    with pytest.raises(Conflict, match="is not what would be put live"):
        shop.pipe("approve", "1", "--digest", "sha256:" + "ff" * 32)
    assert promotions.get(shop.db, 1).status is PromotionStatus.REQUESTED


def test_nobody_approves_what_waits_for_nothing(shop: Market) -> None:
    shop.accept()
    with pytest.raises(NotFound, match="run 1 waits for no decision"):
        shop.pipe("approve", "1")


def test_a_rejection_needs_a_reason_and_keeps_it(shop: Market) -> None:
    release = shop.environment()
    shop.ask(release, shop.accept(), **APPROVAL)
    assert shop.pipe("reject", "1").exit_code == 2
    assert shop.pipe("reject", "1", "release", "-m", "not on a Friday").exit_code == 0
    made = promotions.get(shop.db, 1)
    assert made.status is PromotionStatus.REJECTED
    assert "not on a Friday" in shop.pipe("env", "release").output


def test_who_asked_may_not_approve_unless_the_operator_says_so(shop: Market) -> None:
    event = Event(kind="push", repository="/shop", ref="refs/heads/main", sha="ab" * 20, branch="main", by="ana")
    number = runs.accept(shop.db, Plan(event), by="ana").id
    shop.ask(shop.environment(), number, rules=APPROVAL["rules"])
    with pytest.raises(NotAllowed, match="ana asked for promotion 1"):
        shop.pipe("approve", "1")
