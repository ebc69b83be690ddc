"""The verbs of people at a promotion: who may, what holds, what follows; and what environments are given."""

from __future__ import annotations

import ipaddress

import pytest

from pipeline import environments, gates, promotions, queue, runs
from pipeline.errors import Conflict, DefinitionError, NotAllowed, NotFound, Unavailable
from pipeline.model import Outcome, PromotionStatus, Status
from pipeline.promotion_records import change, move
from tests.pipeline.story import WAITS, Story, stage

RELEASE = {"images": {"web": "sha256:1"}, "config_hash": "c1"}
APPROVAL = {"rules": [{"role": "release-manager", "count": 1}], "expires": 3600.0}


@pytest.fixture
def story(db):
    return Story(db)


@pytest.fixture
def place(db, settings):
    return environments.ensure(db, settings, "shop", "test", {})


def waiting_run(story, **more):
    run = story.accept(stage("unit"), stage("go", "unit", kind="promote"), **more)
    story.work({"go": WAITS})
    return run


def ask(db, story, place, run=None, *, by="ada", release=RELEASE, **policy):
    run = run or waiting_run(story)
    stage_id = story.stage(run, "go").id
    return promotions.request(db, place, run, release=release, policy=policy, by=by, stage_id=stage_id)


def goes_live(db, made):
    """Let a promotion go live as its worker would, without a world."""
    with db.write() as tx:
        found = move(tx, promotions.fetch(tx, made.id), PromotionStatus.DEPLOYING)
        found = move(tx, change(tx, found, phase="done", colour="blue"), PromotionStatus.LIVE)
        row = environments.environments.update().where(environments.environments.c.id == made.environment_id)
        tx.execute(row.values(live_promotion=made.id, live_colour="blue"))
        queue.withdraw(tx, kind="promotion", ref=made.id)
        runs.finish_waiting(tx, made.stage_id, Outcome(status=Status.SUCCEEDED))


# --- asking ---------------------------------------------------------------------------------------------------------


def test_without_a_rule_a_request_is_approved_at_once_and_gets_a_job(db, story, place):
    made = ask(db, story, place)
    assert made.status == "approved"
    with db.read() as connection:
        job = connection.execute(queue.jobs.select().where(queue.jobs.c.kind == "promotion")).one()
    assert (job.ref, job.lock, job.status) == (made.id, f"env:{place.id}", "queued")


def test_a_stage_that_asks_again_gets_the_same_promotion(db, story, place):
    run = waiting_run(story)
    assert ask(db, story, place, run).id == ask(db, story, place, run).id


def test_every_requirement_that_does_not_hold_is_named(db, story, place):
    run = waiting_run(story, branch="feature")
    requires = {"branches": ["main", "release/*"], "stages": ["unit", "lint"], "verify": True, "from": "qa"}
    with pytest.raises(NotAllowed) as refusal:
        ask(db, story, place, run, requires=requires)
    for words in ("only runs of main, release/*", "`lint` must have succeeded", "a `verify`", "live in `qa`"):
        assert words in refusal.value.message
    assert "`unit`" not in refusal.value.message


def test_from_demands_exactly_what_this_run_put_live_there(db, settings, story, place):
    after = environments.ensure(db, settings, "shop", "release", {})
    run = waiting_run(story)
    goes_live(db, ask(db, story, place, run))

    def to_release(release):
        return promotions.request(db, after, run, release=release, policy={"from": "test"}, by="ada")

    with pytest.raises(NotAllowed, match="exactly these images"):
        to_release({"images": {"web": "sha256:2"}, "config_hash": "c1"})
    assert to_release(RELEASE).status == "approved"


def test_from_is_not_met_by_another_run_nor_before_the_bake_has_ended(db, settings, story, place):
    after = environments.ensure(db, settings, "shop", "release", {})
    first = waiting_run(story)
    made = ask(db, story, place, first)
    with pytest.raises(NotAllowed, match="bake ended"):
        promotions.request(db, after, first, release=RELEASE, policy={"from": "test"}, by="ada")
    goes_live(db, made)
    with pytest.raises(NotAllowed, match="bake ended"):
        promotions.request(db, after, waiting_run(story), release=RELEASE, policy={"from": "test"}, by="ada")


def test_an_older_run_may_not_follow_a_newer_one(db, story, place):
    older = waiting_run(story)
    goes_live(db, ask(db, story, place))
    with pytest.raises(Conflict, match="is older"):
        ask(db, story, place, older)


# --- deciding -------------------------------------------------------------------------------------------------------


def test_an_approval_starts_the_promotion(db, story, place):
    made = ask(db, story, place, approval=APPROVAL)
    assert (made.status, promotions.needed(db, made)) == ("requested", "1 of release-manager")
    assert queue.claim(db, owner="worker") is None
    assert promotions.approve(db, made.id, person="bob").status == "approved"
    assert queue.claim(db, owner="worker").ref == made.id


def test_who_asked_or_wrote_it_can_not_approve_it(db, story, place):
    made = ask(db, story, place, by="carol", approval=APPROVAL)
    for person in ("carol", "ada"):
        with pytest.raises(NotAllowed, match="can not approve"):
            promotions.approve(db, made.id, person=person)
    assert promotions.get(db, made.id).status == "requested"


def test_self_approval_is_possible_where_the_operator_says_so(db, story, place):
    made = ask(db, story, place, approval={**APPROVAL, "self_approval": True})
    assert promotions.approve(db, made.id, person="ada").status == "approved"


def test_every_rule_needs_its_own_people(db, story, place):
    rules = [{"role": "release-manager", "count": 2}, {"role": "security", "count": 1}]
    made = ask(db, story, place, approval={**APPROVAL, "rules": rules})
    assert promotions.approve(db, made.id, person="bob").status == "requested"
    assert promotions.approve(db, made.id, person="bob").status == "requested"
    assert promotions.approve(db, made.id, person="carol").status == "requested"
    assert promotions.needed(db, made) == "1 of security"
    assert promotions.approve(db, made.id, person="dora").status == "approved"


def test_a_person_without_a_role_does_not_count(db, story, place):
    made = ask(db, story, place, approval=APPROVAL)
    with pytest.raises(NotAllowed, match="none of the roles"):
        promotions.approve(db, made.id, person="bob", has_role=lambda person, role: False)


def test_people_are_seated_so_that_as_many_rules_as_possible_are_met():
    roles = {"ann": {"a", "b"}, "bea": {"a"}}
    rules = {"rules": [{"role": "a", "count": 1}, {"role": "b", "count": 1}]}
    assert gates.approved(rules, ["ann", "bea"], lambda person, role: role in roles[person]) == (True, "")
    assert gates.approved(rules, ["ann"], lambda person, role: role in roles[person])[0] is False


def test_a_change_of_what_is_live_voids_earlier_decisions(db, story, place):
    rules = [{"role": "release-manager", "count": 2}]
    made = ask(db, story, place, approval={**APPROVAL, "rules": rules})
    promotions.approve(db, made.id, person="bob")
    first = waiting_run(story)
    other = promotions.request(db, place, first, release={**RELEASE, "config_hash": "c0"}, policy={}, by="ada")
    with db.write() as tx:
        found = move(tx, promotions.fetch(tx, other.id), PromotionStatus.DEPLOYING)
        move(tx, change(tx, found, phase="done"), PromotionStatus.LIVE)
        row = environments.environments.update().where(environments.environments.c.id == place.id)
        tx.execute(row.values(live_promotion=other.id, live_colour="blue"))
    made = promotions.approve(db, made.id, person="carol")
    assert made.status == "requested"
    assert [d.person for d in promotions.deciders(db, made) if d.counts] == ["carol"]


def test_a_rejection_needs_a_reason_and_fails_the_stage(db, story, place):
    run = waiting_run(story)
    made = ask(db, story, place, run, approval=APPROVAL)
    with pytest.raises(NotAllowed, match="needs a reason"):
        promotions.reject(db, made.id, person="bob", reason="  ")
    promotions.reject(db, made.id, person="bob", reason="not on a Friday")
    assert story.stage(run, "go").status == "failed"
    assert "not on a Friday" in story.stage(run, "go").reason
    with pytest.raises(Conflict, match="waits for no decision"):
        promotions.approve(db, made.id, person="bob")


def test_a_request_expires_and_is_never_approved_by_time(db, story, place, clock):
    run = waiting_run(story)
    made = ask(db, story, place, run, approval=APPROVAL)
    clock.leap(3601)
    with pytest.raises(Conflict, match="expired"):
        promotions.approve(db, made.id, person="bob")
    assert [one.id for one in promotions.expire(db)] == [made.id]
    assert (promotions.get(db, made.id).status, story.stage(run, "go").status) == ("expired", "failed")


def test_approving_a_newer_run_supersedes_what_older_ones_ask_for(db, story, place):
    older_run = waiting_run(story)
    older = ask(db, story, place, older_run, approval=APPROVAL)
    newer = ask(db, story, place, approval=APPROVAL)
    promotions.approve(db, newer.id, person="bob")
    assert promotions.get(db, older.id).status == "superseded"
    assert f"superseded by run {newer.run_id}" in story.stage(older_run, "go").reason


def test_cancelling_a_run_cancels_what_it_asked_for(db, story, place):
    run = waiting_run(story)
    made = ask(db, story, place, run, approval=APPROVAL)
    runs.cancel(db, run.id, by="ada")
    assert (promotions.get(db, made.id).status, story.status(run)) == ("cancelled", "cancelled")


def test_there_is_no_promotion_that_nobody_asked_for(db):
    with pytest.raises(NotFound):
        promotions.get(db, 999)


# --- freezes --------------------------------------------------------------------------------------------------------

FRIDAY_18_UTC = 1795197600.0  # Friday 2026-11-20 18:00 UTC, 19:00 in Berlin
WEEKEND = {"cron": "0 17 * * FRI", "duration": "62h", "timezone": "Europe/Berlin", "reason": "weekend"}


def test_a_window_is_closed_from_its_cron_line_for_its_duration():
    assert gates.frozen([WEEKEND], FRIDAY_18_UTC) == (FRIDAY_18_UTC + 60 * 3600, "weekend")
    assert gates.frozen([WEEKEND], FRIDAY_18_UTC - 2 * 3600 - 1) is None
    assert gates.frozen([WEEKEND], FRIDAY_18_UTC + 60 * 3600) is None


def test_a_frozen_environment_refuses_and_says_until_when(db, story, place):
    always = {"cron": "* * * * *", "duration": "2h", "reason": "audit"}
    with pytest.raises(NotAllowed, match=r"frozen until .* UTC: audit"):
        ask(db, story, place, freeze=[always])


@pytest.mark.parametrize("line", ["0 17 * *", "61 * * * *", "* * * * XXX", "*/0 * * * *", "5-1 * * * *"])
def test_a_cron_line_that_is_none_is_refused(line):
    with pytest.raises(DefinitionError, match="cron line"):
        gates.frozen([{**WEEKEND, "cron": line}], FRIDAY_18_UTC)


# --- what environments are given ------------------------------------------------------------------------------------


def test_an_environment_keeps_its_subnet_and_ports(db, settings):
    first = environments.ensure(db, settings, "shop", "test", {})
    again = environments.ensure(db, settings, "shop", "test", {"env": {"A": "1"}})
    assert (again.id, again.subnet, again.port, again.preview_port) == (
        first.id,
        first.subnet,
        first.port,
        first.preview_port,
    )
    assert again.spec == {"env": {"A": "1"}}


def test_environments_never_share_a_subnet_or_a_port(db, settings):
    made = [environments.ensure(db, settings, "shop", f"e{n}", {}) for n in range(5)]
    assert len({one.subnet for one in made}) == 5
    assert len({port for one in made for port in (one.port, one.preview_port)}) == 10
    assert all(ipaddress.ip_network(one.subnet).prefixlen == 26 for one in made)


def test_networks_and_ports_of_the_host_are_left_out(db, settings):
    taken = ["198.18.192.0/24", "10.0.0.0/8"]
    made = environments.ensure(db, settings, "shop", "test", {}, taken=taken, port_is_free=lambda port: port > 8099)
    assert made.subnet == "198.18.193.0/26"
    assert (made.port, made.preview_port) == (8100, 8179)


def test_a_port_that_another_environment_has_is_refused(db, settings):
    environments.ensure(db, settings, "shop", "test", {"public": {"port": 9000}})
    with pytest.raises(Conflict, match=r"port 9000 of shop\.release is already the port of shop\.test"):
        environments.ensure(db, settings, "shop", "release", {"public": {"port": 9000}})


def test_addresses_that_run_out_are_told(db, settings):
    with pytest.raises(Unavailable, match="no network of"):
        environments.ensure(db, settings, "shop", "test", {}, taken=["198.18.0.0/15"])
    with pytest.raises(Unavailable, match="no port of"):
        environments.ensure(db, settings, "shop", "test", {}, port_is_free=lambda port: False)


def test_a_laptop_without_environments_has_two_quick_ones():
    made = environments.default()
    assert list(made) == ["test", "release"]
    assert made["test"].strategy.blue_green.bake == 3.0
