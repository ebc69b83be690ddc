"""The commands `image save` and `image load`: pushed images as files, for hosts that reach no registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.menu import COMMANDS, Described
from pipeline.cli.names import RunNumber, complete_runs
from pipeline.cli.opening import at_work
from pipeline.errors import NotFound

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.model import Image
    from pipeline.settings import Settings
    from runners.image_archive import Carried
    from runners.registry import Registry

_FILE = click.Path(path_type=Path)
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("image", short_help=COMMANDS["image"][1], context_settings=_HELP)
def image() -> None:
    """Carry images to hosts without a registry."""


@image.command("save", cls=Described, examples="pipe image save 12 --output shop-12.tar\n", context_settings=_HELP)
@click.argument("number", metavar="[RUN]", required=False, type=RunNumber(), shell_complete=complete_runs)
@click.option("-o", "--output", metavar="FILE", required=True, type=_FILE, help="The file to write.")
@click.pass_obj
def save(settings: Settings, number: int | None, output: Path) -> None:
    """Write the images that a run pushed to a file, exactly as their registry holds them.

    The digests that are printed are what `pipe image load --digest` can ask for on the other side.
    """
    from pipeline.cli.records import latest
    from runners import image_archive, local_registry, logins, registry

    with at_work(settings) as (db, engine):
        pushed = _pushed(db, latest(db, number).id)
        if any(one.repository.startswith(f"{local_registry.host(settings)}/") for one in pushed):
            local_registry.ensure(engine, settings, db.installation)

        def opened(one: Image) -> Registry:
            place = registry.parse(one.repository)
            return registry.Registry(place, settings, logins.find(place.host, {}))

        for carried in image_archive.save(pushed, opened, output):
            click.echo(f"{carried.name}@{carried.digest}")


def _pushed(db: Database, run: int) -> list[Image]:
    from pipeline import runs

    found = [stage.image for stage in runs.stages(db, run) if stage.image and stage.image.digest]
    if not found:
        raise NotFound(f"run {run} has pushed no image", hint=f"`pipe show {run}` tells what it did")
    return found


@image.command(
    "load",
    cls=Described,
    examples="pipe image load shop-12.tar\npipe image load shop-12.tar --digest sha256:…\n",
    context_settings=_HELP,
)
@click.argument("file", metavar="FILE", type=_FILE)
@click.option("--digest", metavar="DIGEST", default="", help="Refuse a file that does not hold this image.")
@click.pass_obj
def load(settings: Settings, file: Path, digest: str) -> None:
    """Check a file written by `pipe image save`, and put its images into this host's local registry.

    Nothing is taken of a file in which a single byte is not what it was: every layer must be what its digest says.
    """
    from runners import image_archive, local_registry
    from runners.registry import Registry, Repository

    with at_work(settings) as (db, engine):
        image_archive.check(file)  # before anything is started for it
        host = local_registry.ensure(engine, settings, db.installation)

        def opened(carried: Carried) -> Registry:
            return Registry(Repository(host, carried.name), settings)

        for carried in image_archive.load(file, opened, expect=digest):
            click.echo(f"{host}/{carried.name}@{carried.digest}")
