"""What is live where, for `pipe env`: all environments in a list, or one with its history."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import tables
from pipeline.cli.places import find_definition
from pipeline.cli.view_promotions import urls
from pipeline.cli.view_text import ago, counted, lasted
from pipeline.errors import NotAllowed, NotFound
from pipeline.model import PromotionStatus

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.environments import Standing
    from pipeline.promotions import Promotion
    from pipeline.settings import Settings

_HISTORY = 12
_HEAD = 1 << 20  # bytes of a definition that are looked at for its name
_STYLES = {"live": "good", "failed": "bad", "rolled_back": "bad", "needs_attention": "bad", "requested": "warn"}


def find(db: Database, name: str, *, app: str | None = None) -> Standing:
    """Return the environment of that name, of `app` where several have one. Raises NotFound."""
    from pipeline import environments

    found = [one for one in environments.listing(db, application=app) if one.name == name]
    here = [one for one in found if one.application == application_here()]
    if len(found) == 1 or here:
        return (here or found)[0]
    if found:
        owners = ", ".join(one.application for one in found)
        raise NotFound(f"{counted(len(found), 'application')} have a `{name}`: {owners}", hint="say which with `--app`")
    near = get_close_matches(name, [one.name for one in environments.listing(db, application=app)], n=1)
    hint = f"did you mean `{near[0]}`?" if near else "`pipe env` lists what there is"
    raise NotFound(f"nothing has ever been promoted to `{name}`", hint=hint)


def application_here() -> str:
    """Return the name in the pipe.yml of this folder or above it, or an empty string; it is not checked here."""
    found = find_definition(Path.cwd())
    if found is None:
        return ""
    with found.path.open(encoding="utf-8", errors="replace") as file:
        name = re.search(r"^name:\s*[\"']?([a-z][a-z0-9_-]*)", file.read(_HEAD), re.MULTILINE)
    return name[1] if name else ""


def show(db: Database, settings: Settings, names: Sequence[str], *, as_json: bool) -> None:
    """Print the environments that are meant: all, of one application, or one with its history."""
    from pipeline import environments

    known = environments.listing(db)
    chosen = _chosen(known, names)
    if as_json:
        for one in chosen:
            click.echo(json.dumps(_fields(db, settings, one)))
    elif not chosen:
        click.echo("Nothing has been promoted yet. A stage with `promote:` does, or `pipe promote RUN ENV`.")
    else:
        _table(db, settings, chosen)
        if len(chosen) == 1:
            _story(db, settings, chosen[0])


def resume(db: Database, names: Sequence[str], *, by: str, reason: str) -> None:
    """Open one environment again after a person has looked at it. Raises NotFound, NotAllowed and Conflict."""
    from pipeline import environments

    if not reason.strip():
        raise NotAllowed("opening an environment again needs a reason", hint="say it with -m")
    chosen = _chosen(environments.listing(db), names)
    if len(names) == 0 or len(chosen) != 1:
        raise NotFound("say which environment", hint="`pipe env` lists what there is")
    environments.resume(db, chosen[0], by=by, reason=reason)
    click.echo(f"{chosen[0].key} takes promotions again")


def _chosen(known: Sequence[Standing], names: Sequence[str]) -> list[Standing]:
    if len(names) == 2:
        found = [one for one in known if (one.application, one.name) == tuple(names)]
    elif names:
        found = [one for one in known if one.application == names[0]] or _named(known, names[0])
    else:
        return list(known)
    if not found:
        raise NotFound(f"there is no environment {'/'.join(names)}", hint="`pipe env` lists what there is")
    return found


def _named(known: Sequence[Standing], name: str) -> list[Standing]:
    """Return the environments of that name; the one of the application that is here, where it has one."""
    found = [one for one in known if one.name == name]
    return [one for one in found if one.application == application_here()] or found


def _table(db: Database, settings: Settings, chosen: Sequence[Standing]) -> None:
    rows = [_row(db, settings, one) for one in chosen]
    tables.show(rows, head=("application", "environment", "live", "run", "commit", "since", "address"), last="whole")


def _row(db: Database, settings: Settings, one: Standing) -> list[tuple[str, str] | str]:
    live = _promotion(db, one.live_promotion)
    state: tuple[str, str] = (f"● {one.live_colour}", "good") if one.live_colour else ("○ nothing", "dim")
    if one.paused:
        state = ("! needs attention", "bad")
    elif trouble := _trouble(settings, one):
        state = (f"! {trouble[0]}", "bad")
    return [
        one.application,
        (one.name, "bold"),
        state,
        f"#{live.run_id}" if live else "",
        str(live.release.get("commit", ""))[:8] if live else "",
        (ago(db.now() - one.live_since) if one.live_since else "", "dim"),
        urls(settings, one)[0],
    ]


def _trouble(settings: Settings, one: Standing) -> tuple[str, str] | None:
    """Return what is wrong between the record and the proxy, in few words and with what to do; else None."""
    from runners import ground

    seen = ground.looked_at(settings, one) if one.live_colour else None
    if seen is None or (seen.alive and not seen.fell_back and seen.running == one.live_colour):
        return None
    if not seen.alive:
        return "proxy is down", "no proxy answers; its container restarts by itself, and `pipe doctor` looks closer"
    if seen.fell_back:
        why = f"{one.live_colour} had no usable server, so the proxy went back to {seen.running} by itself"
        return f"fell back to {seen.running}", f"{why}: `pipe rollback {one.name}` records that, a new run replaces it"
    why = f"the proxy sends requests to {seen.running or 'nobody'}, and {one.live_colour} is recorded"
    return f"{seen.running or 'nobody'} answers", f"{why}: nothing is touched until a person decides"


def _story(db: Database, settings: Settings, one: Standing) -> None:
    """Print what is warm, what waits, and how the environment came to be as it is."""
    from pipeline import promotions

    now = db.now()
    if one.paused:
        again = f"`pipe env {one.name} --resume -m REASON` opens it again once you have looked"
        tables.say([("\n", ""), ("record and reality contradict each other; nothing was touched", "bad")])
        tables.say([(f"  {again}", "dim")])
    elif trouble := _trouble(settings, one):
        tables.say([("\n", ""), (trouble[1], "bad")])
    if one.warm_promotion and one.warm_until and one.warm_until > now:
        warm = promotions.get(db, one.warm_promotion)
        text = f"run #{warm.run_id} ({warm.colour}) is warm for {lasted(one.warm_until - now)} more"
        to = f" --to {warm.run_id}" if warm.status == PromotionStatus.ROLLED_BACK else ""  # never forward by itself
        tables.say([("\n", ""), (text, ""), (f"; `pipe rollback {one.name}{to}` puts it live at once", "dim")])
    tables.say([("\nhistory", "bold")])
    rows = [_event(row, now) for row in promotions.listing(db, environment_id=one.id, limit=_HISTORY)]
    tables.show(rows, indent=2)


def _event(row: Promotion, now: float) -> list[tuple[str, str] | str]:
    what = "back to" if row.kind == "rollback" else "deploy"
    state = str(row.status).replace("_", " ") + (f" ({row.phase})" if row.status == "deploying" else "")
    return [
        (ago(now - row.requested_at), "dim"),
        f"{what} #{row.run_id}",
        str(row.colour or ""),
        (state, _STYLES.get(row.status, "")),
        f"by {row.requested_by}",
        (row.error or row.reason, "dim"),
    ]


def _fields(db: Database, settings: Settings, one: Standing) -> dict[str, Any]:
    live = _promotion(db, one.live_promotion)
    url, preview = urls(settings, one)
    return {
        "application": one.application,
        "environment": one.name,
        "colour": one.live_colour,
        "run": live.run_id if live else None,
        "commit": live.release.get("commit") if live else None,
        "images": dict(live.release.get("images") or {}) if live else {},
        "live_since": one.live_since,
        "warm_run": warm.run_id if (warm := _promotion(db, one.warm_promotion)) else None,
        "warm_until": one.warm_until,
        "needs_attention": one.paused,
        "trouble": trouble[1] if (trouble := _trouble(settings, one)) else "",
        "url": url,
        "preview": preview,
    }


def _promotion(db: Database, number: int | None) -> Promotion | None:
    from pipeline import promotions

    return promotions.get(db, number) if number is not None else None
