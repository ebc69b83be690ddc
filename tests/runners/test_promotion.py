"""The machine that puts a release live, in the dummy's world, on both databases."""

from __future__ import annotations

import pytest

from pipeline import environments, logs, promotions, queue, rollbacks, runs, swaps
from pipeline.errors import Conflict, NotAllowed, NotFound
from pipeline.model import Colour, Status
from runners import mending, retirement
from tests.runners.theatre import QUICK, WEB, Theatre

WORKER = {"command": ["work"], "swap": "stop_then_start"}


@pytest.fixture
def theatre(db, settings, tmp_path):
    spec = {"target": {"dummy": str(tmp_path / "world.json")}, "strategy": {"blue_green": dict(QUICK)}}
    return Theatre(db, settings, spec)


def world(theatre):
    return theatre.ground.target.world.now()


def change_world(theatre, change):
    with theatre.ground.target.world.changing() as data:
        change(data)


def told(theatre, made):
    attempt = runs.attempts(theatre.db, made.stage_id)[-1]
    return "\n".join(line.text for line in logs.read(theatre.settings, attempt.id))


# --- the way of a release -------------------------------------------------------------------------------------------


def test_the_first_release_goes_live_in_an_empty_environment(theatre):
    made = theatre.promote()
    assert (made.status, made.phase, theatre.stage(made).status) == ("live", "done", "succeeded")
    assert theatre.routed() == "blue"
    assert theatre.there() == {"blue": {made.id}}
    assert (theatre.standing.live_promotion, theatre.standing.warm_promotion) == (made.id, None)


def test_the_next_release_takes_the_other_colour_and_the_old_one_stays_warm(theatre, db):
    first, second = theatre.promote(), theatre.promote()
    assert theatre.routed() == "green"
    assert theatre.there() == {"blue": {first.id}, "green": {second.id}}
    assert theatre.get(first).status == "replaced"
    assert theatre.standing.warm_promotion == first.id
    assert theatre.standing.warm_until == pytest.approx(db.now() + 600, abs=5)
    theatre.is_consistent()


def test_every_step_is_an_intent_and_an_observation_in_order(theatre, db):
    theatre.app["before"] = {"process": "web", "run": "migrate"}
    made = theatre.promote()
    steps = swaps.trail(db, made.id)
    assert [s.phase for s in steps] == ["locked", "pulling", "before_hook", "creating", "waiting_ready", "switching"]
    assert all(s.done_at is not None and s.done_at >= s.intent_at for s in steps)


def test_a_person_reads_what_happened_in_the_stage_s_log(theatre):
    made = theatre.promote()
    text = told(theatre, made)
    for words in (
        "nothing is live yet, blue is next",
        "blue is created",
        "every replica is ready",
        "blue is live at dummy://",
    ):
        assert words in text
    assert theatre.stage(made).result["url"].startswith("dummy://")


def test_a_third_release_waits_for_nobody_on_the_warm_colour_and_replaces_it(theatre):
    first, second, third = theatre.promote(), theatre.promote(), theatre.promote()
    assert theatre.routed() == "blue"
    assert theatre.there() == {"green": {second.id}, "blue": {third.id}}
    assert [theatre.get(p).status for p in (first, second, third)] == ["replaced", "replaced", "live"]


def test_replicas_come_from_the_definition(theatre):
    theatre.spec["replicas"] = {"web": 3}
    made = theatre.promote()
    assert len(theatre.ground.target.observe(theatre.ground.place)) == 3
    assert theatre.get(made).status == "live"


def test_a_process_that_must_not_run_twice_moves_at_the_switch(theatre):
    theatre.app["processes"]["worker"] = WORKER
    first = theatre.promote()
    second = theatre.promote()
    workers = [i for i in theatre.ground.target.observe(theatre.ground.place) if i.process == "worker"]
    assert [(i.colour, i.promotion) for i in workers] == [(Colour.GREEN, second.id)]
    happened = [line for line in world(theatre)["happened"] if "worker" in line or "pointed" in line]
    order = [line.split()[0] for line in happened]
    assert order == ["pointed", "started", "pointed", "removed", "started"]
    assert first.id != second.id


# --- what goes wrong before the switch ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "words", "status"),
    [
        ("never-ready", "GET /healthz at", "failed"),
        ("dies", "did not stay up", "failed"),
        ("missing", "pulling the image", "errored"),
    ],
)
def test_a_release_that_does_not_come_up_leaves_the_live_one_alone(theatre, clock, behaviour, words, status):
    theatre.app["processes"]["web"] = {**WEB, "health": {"http": "/healthz", "timeout": 0.2}}
    first = theatre.promote()
    bad = theatre.promote(behaviour, expect="failed")
    assert (bad.status, theatre.stage(bad).status) == ("failed", status)
    assert words in bad.error
    assert theatre.routed() == "blue"
    assert theatre.there() == {"blue": {first.id}}


def test_a_first_release_that_never_comes_up_leaves_nothing_behind(theatre):
    theatre.app["processes"]["web"] = {**WEB, "health": {"http": "/missing", "timeout": 0.2}}
    theatre.app["accessories"] = {"db": {"image": "sha256:db"}}
    bad = theatre.promote("never-ready", expect="failed")
    assert "GET /missing at" in bad.error
    assert "status 404" in bad.error
    assert "started sha256" in bad.error
    assert "health: {http: …}" in bad.error
    left = world(theatre)
    assert (left["containers"], left["networks"], left["accessories"], left["routes"]) == ({}, [], [], {})


def test_a_secret_that_is_nowhere_is_named_before_anything_starts(theatre):
    def nowhere(run, names):
        raise NotFound(f"secret {', '.join(names)} not found", hint="add it to secrets.env")

    theatre.promote()
    theatre.spec["secrets"] = ["TOKEN"]
    theatre.secrets = nowhere
    before = world(theatre)["containers"]
    bad = theatre.promote(expect="failed")
    assert "shop.test: secret TOKEN not found" in bad.error
    assert "add it to secrets.env" in bad.error
    assert world(theatre)["containers"] == before


def test_a_before_hook_that_fails_stops_the_promotion(theatre):
    theatre.app["before"] = {"process": "web", "run": "migrate"}
    bad = theatre.promote("hook-fails", expect="failed")
    assert (bad.status, theatre.stage(bad).status) == ("failed", "failed")
    assert "before-hook `migrate` ended with 1" in bad.error
    assert world(theatre)["hooks"] == {}


def test_a_verify_that_fails_stops_the_promotion_before_the_swap(theatre):
    theatre.promote()
    run = theatre.run()
    bad = theatre.request(run, verify={"image": "sha256:test", "run": ["smoke", "exit 1"]})
    theatre.work()
    bad = theatre.get(bad)
    assert (bad.status, theatre.stage(bad).status, theatre.routed()) == ("failed", "failed", "blue")
    assert "verify ended with 1 against green" in bad.error
    assert "PREVIEW_URL=http://" in bad.error


def test_a_cancelled_run_ends_its_promotion_before_the_swap(theatre, db):
    theatre.promote()
    run = theatre.run()
    made = theatre.request(run)
    runs.cancel(db, run.id, by="ada")
    theatre.work()
    assert (theatre.get(made).status, theatre.routed()) == ("cancelled", "blue")
    assert theatre.stage(made).status == "cancelled"


# --- the bake -------------------------------------------------------------------------------------------------------


def test_a_release_that_answers_with_errors_is_rolled_back(theatre):
    theatre.spec["strategy"]["blue_green"]["bake"] = 0.3
    first = theatre.promote()
    bad = theatre.promote("breaks", expect="rolled_back")
    assert (bad.status, theatre.stage(bad).status) == ("rolled_back", "failed")
    assert "answers of green were errors" in bad.error
    assert theatre.routed() == "blue"
    assert theatre.there() == {"blue": {first.id}}
    assert theatre.get(first).status == "live"
    theatre.is_consistent()


def test_without_automatic_rollback_a_breach_calls_a_person_and_freezes_the_environment(theatre):
    theatre.spec["strategy"]["blue_green"] |= {"bake": 0.3, "auto_rollback": False}
    theatre.promote()
    bad = theatre.promote("breaks", expect="needs_attention")
    assert bad.status == "needs_attention"
    assert theatre.standing.paused
    with pytest.raises(Conflict, match="needs attention"):
        theatre.request(theatre.run())
    environments.resume(theatre.db, theatre.standing, by="eve", reason="looked")
    assert not theatre.standing.paused


def test_a_single_process_that_can_not_start_brings_the_earlier_release_back(theatre):
    theatre.app = {"processes": {"web": dict(WEB), "worker": dict(WORKER)}}
    first = theatre.promote()
    wrong = {"processes": {"web": dict(WEB), "worker": {**WORKER, "command": ["no-such-command"]}}}
    bad = theatre.promote(expect="rolled_back", app=wrong)
    assert "no such command" in bad.error
    assert theatre.stage(bad).status == "failed"
    assert theatre.there() == {"blue": {first.id}}
    assert sorted(c["process"] for c in world(theatre)["containers"].values()) == ["web", "worker"]
    theatre.is_consistent()


def test_what_a_person_may_go_back_to_outlives_the_deadlines_of_earlier_promotions(theatre, clock):
    theatre.promote()
    theatre.promote()
    theatre.spec["strategy"]["blue_green"] |= {"bake": 0.3, "auto_rollback": False}
    bad = theatre.promote("breaks", expect="needs_attention")
    clock.leap(601)  # the second promotion's old colour was due by now
    retirement.catch_up(theatre.hands)
    assert theatre.there() == {"blue": {bad.id}, "green": {theatre.standing.warm_promotion}}


def test_a_first_release_that_breaches_has_nowhere_to_go_back_to(theatre):
    theatre.spec["strategy"]["blue_green"]["bake"] = 0.3
    bad = theatre.promote("breaks", expect="needs_attention")
    assert bad.status == "needs_attention"
    assert "no earlier release" in bad.error


def test_what_the_proxy_did_by_itself_is_recorded_as_an_incident(theatre):
    theatre.promote()
    second = theatre.promote()

    def die(data):
        for container in data["containers"].values():
            if container["colour"] == "green":
                container["state"] = "exited"

    change_world(theatre, die)
    third = theatre.promote()
    assert "incident: the proxy went back to blue by itself" in told(theatre, third)
    assert (theatre.get(second).status, third.status, theatre.routed()) == ("rolled_back", "live", "green")
    theatre.is_consistent()


def test_a_contradiction_is_touched_by_nobody(theatre):
    first = theatre.promote()
    change_world(
        theatre, lambda data: data["routes"]["shop.test"].update(recorded={"live": "green"}, running={"live": "green"})
    )
    before = world(theatre)["containers"]
    bad = theatre.promote(expect="needs_attention")
    assert bad.status == "needs_attention"
    assert "the record says blue" in bad.error
    assert world(theatre)["containers"] == before
    assert theatre.get(first).status == "live"


# --- going back -----------------------------------------------------------------------------------------------------


def rollback(theatre, **more):
    made = rollbacks.request(theatre.db, theatre.standing, by="eve", reason="it is wrong", **more)
    theatre.work()
    return theatre.get(made)


def test_a_rollback_to_the_warm_colour_is_only_the_route(theatre):
    first, second = theatre.promote(), theatre.promote()
    before = len(world(theatre)["happened"])
    back = rollback(theatre)
    assert world(theatre)["happened"][before:] == ["pointed shop.test to blue"]
    assert (back.status, back.kind, back.carrier, theatre.routed()) == ("live", "rollback", first.id, "blue")
    assert [theatre.get(p).status for p in (first, second)] == ["replaced", "rolled_back"]
    theatre.is_consistent()


def test_the_proxy_does_not_fall_back_to_what_a_person_went_back_from(theatre):
    theatre.promote()
    theatre.promote()
    rollback(theatre)
    assert world(theatre)["routes"]["shop.test"]["recorded"]["warm"] == ""


def test_a_second_rollback_does_not_go_forward_again(theatre):
    theatre.promote()
    theatre.promote()
    rollback(theatre)
    with pytest.raises(NotFound, match="no earlier release"):
        rollback(theatre)
    assert theatre.routed() == "blue"


def test_a_rollback_to_a_cold_release_is_a_promotion_of_it(theatre, clock, db):
    first = theatre.promote()
    theatre.promote()
    clock.leap(700)
    assert retirement.catch_up(theatre.hands) == 1
    assert set(theatre.there()) == {"green"}
    back = rollback(theatre)
    assert (back.status, back.carrier, theatre.routed()) == ("live", back.id, "blue")
    assert back.release["images"] == theatre.get(first).release["images"]
    theatre.is_consistent()


def test_a_rollback_to_a_warm_colour_that_died_starts_its_release_again(theatre):
    theatre.promote()
    theatre.promote()

    def die(data):
        data["containers"] = {n: c for n, c in data["containers"].items() if c["colour"] != "blue"}

    change_world(theatre, die)
    back = rollback(theatre)
    assert (back.status, back.carrier, theatre.routed()) == ("live", back.id, "blue")
    theatre.is_consistent()


def test_a_rollback_takes_the_environment_from_a_promotion_that_is_being_watched(theatre, db):
    first = theatre.promote()
    second = theatre.promote()
    lease = take_bake(theatre)
    watched = promotions.get(db, lease.ref)
    back = rollback(theatre)
    assert (theatre.get(watched).status, theatre.stage(watched).status) == ("rolled_back", "failed")
    assert (back.status, back.carrier) == ("live", second.id)
    assert theatre.routed() == "green"
    assert first.id != second.id


def take_bake(theatre):
    """Let a third release be switched, and its worker die during the bake."""
    from pipeline.model import Phase
    from runners.switching import Switch

    made = theatre.request(theatre.run())
    taken = {}

    def bake(switch):
        taken["lease"] = switch.swap.lease
        raise KeyboardInterrupt

    original = Switch._bake
    Switch._bake = bake
    try:
        with pytest.raises(KeyboardInterrupt):
            theatre.work()
    finally:
        Switch._bake = original
    assert theatre.get(made).phase == Phase.BAKING
    return taken["lease"]


def test_a_rollback_needs_a_reason_and_something_live(theatre):
    theatre.promote()
    with pytest.raises(NotAllowed, match="reason"):
        rollbacks.request(theatre.db, theatre.standing, by="eve", reason=" ")
    with pytest.raises(NotFound, match="no earlier release"):
        rollback(theatre)


# --- gates ----------------------------------------------------------------------------------------------------------


def gated(theatre, gate):
    theatre.spec["approval"] = {"rules": [{"role": "release-manager", "count": 1}], "gate": gate, "expires": 3600.0}


def test_an_approval_before_the_start_comes_before_any_effect(theatre, db):
    gated(theatre, "before_start")
    made = theatre.promote(expect="requested")
    assert (made.status, theatre.there()) == ("requested", {})
    promotions.approve(db, made.id, person="bob")
    theatre.work()
    assert (theatre.get(made).status, theatre.routed()) == ("live", "blue")


def test_the_gate_before_the_swap_holds_neither_worker_nor_lock_nor_turn(theatre, db):
    theatre.promote()
    gated(theatre, "before_swap")
    made = theatre.promote(expect="requested")
    assert (made.status, made.phase, theatre.routed()) == ("requested", "gate", "blue")
    assert theatre.there()["green"] == {made.id}
    assert queue.claim(db, owner="other") is None
    theatre.is_consistent()
    promotions.approve(db, made.id, person="bob")
    theatre.work()
    assert (theatre.get(made).status, theatre.routed()) == ("live", "green")
    assert (
        sum(
            line.startswith(f"started pipe-{db.installation[:8]}.shop.test.green")
            for line in world(theatre)["happened"]
        )
        == 1
    )


def test_a_rejection_at_the_gate_removes_the_new_colour(theatre, db):
    first = theatre.promote()
    gated(theatre, "before_swap")
    made = theatre.promote(expect="requested")
    promotions.reject(db, made.id, person="bob", reason="not today")
    assert theatre.stage(made).status == "failed"
    retirement.catch_up(theatre.hands)
    assert (theatre.there(), theatre.routed()) == ({"blue": {first.id}}, "blue")


def test_a_newer_promotion_takes_the_colour_of_one_that_waits_at_the_gate(theatre, db):
    theatre.promote()
    gated(theatre, "before_swap")
    older = theatre.promote(expect="requested")
    newer = theatre.promote(expect="requested")
    assert theatre.there()["green"] == {newer.id}
    promotions.approve(db, newer.id, person="bob")
    assert theatre.get(older).status == "superseded"
    theatre.work()
    assert (theatre.get(newer).status, theatre.routed()) == ("live", "green")
    theatre.is_consistent()


# --- the old colour -------------------------------------------------------------------------------------------------


def test_the_old_colour_is_removed_when_its_time_has_come_and_not_before(theatre, clock):
    theatre.promote()
    second = theatre.promote()
    assert retirement.catch_up(theatre.hands) == 0
    clock.leap(601)
    assert retirement.catch_up(theatre.hands) == 1
    assert theatre.there() == {"green": {second.id}}
    assert theatre.standing.warm_promotion is None
    assert world(theatre)["routes"]["shop.test"]["recorded"]["warm"] == ""


def test_an_old_colour_is_left_alone_when_the_router_does_not_agree(theatre, clock):
    theatre.promote()
    theatre.promote()
    change_world(theatre, lambda data: data["routes"]["shop.test"].update(running={"live": "blue", "warm": ""}))
    clock.leap(601)
    retirement.catch_up(theatre.hands)
    assert set(theatre.there()) == {"blue", "green"}


def test_a_rollback_during_the_warm_time_keeps_what_it_went_back_to(theatre, clock):
    first = theatre.promote()
    theatre.promote()
    rollback(theatre)
    clock.leap(601)
    retirement.catch_up(theatre.hands)
    assert theatre.there() == {"blue": {first.id}}
    theatre.is_consistent()


def test_an_older_run_does_not_overwrite_a_newer_one(theatre):
    older = theatre.run()
    theatre.promote()
    with pytest.raises(Conflict, match="is older"):
        theatre.request(older)


def test_promotions_of_one_environment_go_one_after_the_other(theatre, db):
    first, second = theatre.request(theatre.run()), theatre.request(theatre.run())
    lease = queue.claim(db, owner="one", kinds=("promotion",))
    assert lease.ref == first.id
    assert queue.claim(db, owner="two", kinds=("promotion",)) is None
    with db.write() as tx:
        queue.give_back(tx, lease)
    theatre.work()
    assert [theatre.get(p).status for p in (first, second)] == ["replaced", "live"]


def test_a_run_succeeds_when_its_promotion_is_done(theatre, db):
    made = theatre.promote()
    assert runs.get(db, made.run_id).status is Status.SUCCEEDED


# --- what should be live and is not ---------------------------------------------------------------------------------


def lose(theatre, colour):
    def take(data):
        data["containers"] = {n: c for n, c in data["containers"].items() if c["colour"] != colour}

    change_world(theatre, take)


def test_a_live_release_whose_containers_are_gone_is_started_again(theatre):
    theatre.app["processes"]["worker"] = WORKER
    made = theatre.promote()
    assert mending.look_after(theatre.hands) == 0
    lose(theatre, "blue")
    assert mending.look_after(theatre.hands) == 1
    theatre.work(kinds=("retire",))
    assert theatre.there() == {"blue": {made.id}}
    assert {i.process for i in theatre.ground.target.observe(theatre.ground.place)} == {"web", "worker"}
    theatre.is_consistent()


def test_a_proxy_that_fell_back_is_recorded_without_a_promotion(theatre):
    first, second = theatre.promote(), theatre.promote()
    lose(theatre, "green")
    assert mending.look_after(theatre.hands) == 1
    theatre.work(kinds=("retire",))
    assert (theatre.routed(), theatre.standing.live_promotion) == ("blue", first.id)
    assert [theatre.get(p).status for p in (first, second)] == ["live", "rolled_back"]
    theatre.is_consistent()


def test_a_router_that_died_is_woken(theatre):
    theatre.promote()

    def die(data):
        data["alive"] = False
        data["routes"]["shop.test"]["running"] = {}

    change_world(theatre, die)
    assert mending.look_after(theatre.hands) == 1
    theatre.work(kinds=("retire",))
    assert theatre.routed() == "blue"
