"""Names, labels, addresses and containers of an environment on one Docker host, as values. Pure: nothing is made here.

An environment's /26: gateway .1, accessories .2 to .11, the before-hook .12, checks .13, blue .14 to .37,
green .38 to .61. Every (colour, process, replica) has its address before it starts, and keeps it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.definition import Accessory, Before, Process, SecretUse
from pipeline.errors import DefinitionError
from pipeline.model import Colour
from runners.engines import ContainerSpec, Mount
from runners.targets import Check, Place, Release

ACCESSORIES = range(2, 12)
HOOK, CHECK = 12, 13
SLOTS = {Colour.BLUE: range(14, 38), Colour.GREEN: range(38, 62)}
_LOG_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One replica of one process, and where it lives in a colour."""

    process: str
    replica: int
    address: str
    port: int
    single: bool  # must not run twice


def prefix(place: Place) -> str:
    """Return what the name of every object of this environment begins with."""
    return f"pipe-{place.installation[:8]}.{place.key}"


def address(place: Place, number: int) -> str:
    """Return the n-th address of the environment's network."""
    return str(ipaddress.ip_network(place.subnet)[number])


def labels(place: Place, role: str, **more: object) -> dict[str, str]:
    """Return the labels of an object of this environment."""
    return {
        "pipewright.installation": place.installation,
        "pipewright.environment": str(place.environment_id),
        "pipewright.place": place.key,
        "pipewright.role": role,
        **{f"pipewright.{key}": str(value) for key, value in more.items()},
    }


def processes(release: Release) -> dict[str, Process]:
    """Return the release's processes, those with a port first: their addresses then change least."""
    read = {name: Process.model_validate(data) for name, data in release.processes.items()}
    return dict(sorted(read.items(), key=lambda item: (item[1].port is None, item[0])))


def slots(place: Place, release: Release, colour: Colour) -> list[Slot]:
    """Return every replica of a colour with its address. Raises DefinitionError when they are too many."""
    free = iter(SLOTS[colour])
    found = []
    for name, process in processes(release).items():
        for replica in range(1, process.replicas + 1):
            number = next(free, None)
            if number is None:
                raise DefinitionError(
                    f"{place.key} has more than {len(SLOTS[colour])} replicas of all processes together",
                    hint="lower `replicas`; an environment on one Docker host has places for that many per colour",
                )
            single = process.swap == "stop_then_start"
            where = address(place, number)
            found.append(Slot(process=name, replica=replica, address=where, port=process.port or 0, single=single))
    return found


def secret_uses(release: Release, own: list[SecretUse]) -> dict[str, str]:
    """Return secret name -> "file" or "env" for a process: its own, and those of the environment that nobody names."""
    accessories = [Accessory.model_validate(data) for data in release.accessories.values()]
    lists = [one.secrets for one in processes(release).values()] + [one.secrets for one in accessories]
    named = {use.name for uses in lists for use in uses}
    return {**{name: "file" for name in release.secrets if name not in named}, **{use.name: use.as_ for use in own}}


def process_env(
    place: Place, release: Release, process: Process, colour: Colour | None, secrets: Mapping[str, str]
) -> dict[str, str]:
    """Return what a process finds in its environment."""
    uses = secret_uses(release, process.secrets)
    return {
        **release.env,
        **process.env,
        **{name: secrets[name] for name, how in uses.items() if how == "env" and name in secrets},
        "PIPE_APPLICATION": place.application,
        "PIPE_ENVIRONMENT": place.name,
        "PIPE_RUN": str(release.run),
        "PIPE_COMMIT": release.commit,
        **({"PIPE_COLOUR": str(colour)} if colour else {}),
    }


def replica_spec(
    place: Place,
    release: Release,
    slot: Slot,
    colour: Colour,
    *,
    promotion: int,
    epoch: int,
    secrets: Mapping[str, str],
    secret_folder: str,
) -> ContainerSpec:
    """Return the container of one replica."""
    process = processes(release)[slot.process]
    limits = process.resources
    return ContainerSpec(
        name=f"{prefix(place)}.{colour}.{slot.process}.{slot.replica}.{promotion}",
        image=release.images[slot.process],
        command=command(process.command),
        env=process_env(place, release, process, colour, secrets),
        labels=labels(
            place,
            "app",
            colour=colour,
            process=slot.process,
            replica=slot.replica,
            promotion=promotion,
            epoch=epoch,
            config=release.config_hash,
            release=release.run,
            address=slot.address,
        ),
        mounts=_secret_mount(secret_folder),
        network=prefix(place),
        aliases=(f"{slot.process}-{colour}",),
        address=slot.address,
        cpus=limits.cpus if limits else None,
        memory_bytes=limits.memory if limits else None,
        pids=limits.pids if limits else None,
        restart=True,
        stop_seconds=max(int(process.stop_grace), 1),
        log_max_bytes=_LOG_BYTES,
    )


def before_spec(
    place: Place, release: Release, promotion: int, *, secrets: Mapping[str, str], secret_folder: str
) -> ContainerSpec:
    """Return the container of the before-hook: once per promotion, known by its name."""
    before = Before.model_validate(release.before)
    process = processes(release)[before.process]
    return ContainerSpec(
        name=f"{prefix(place)}.before.{promotion}",
        image=release.images[before.process],
        entrypoint=("sh", "-ec"),
        command=(before.run,),
        env=process_env(place, release, process, None, secrets),
        labels=labels(place, "before", promotion=promotion),
        mounts=_secret_mount(secret_folder),
        network=prefix(place),
        address=address(place, HOOK),
    )


def check_spec(place: Place, check: Check) -> ContainerSpec:
    """Return the container that looks at the idle colour."""
    mounts = (Mount(source=check.workspace, target="/workspace"),) if check.workspace else ()
    return ContainerSpec(
        name=f"{prefix(place)}.check.{check.promotion}",
        image=check.image,
        entrypoint=("sh", "-ec"),
        command=("\n".join(check.commands),),
        env=check.env,
        labels=labels(place, "check", promotion=check.promotion),
        workdir=f"/workspace/{check.prefix}".rstrip("/") if check.workspace else "",
        mounts=mounts,
        network=prefix(place),
        address=address(place, CHECK),
    )


def accessory_spec(
    place: Place, name: str, data: Mapping[str, Any], *, number: int, secrets: Mapping[str, str], secret_folder: str
) -> ContainerSpec:
    """Return the container of an accessory: not coloured, keeps its volumes and its address."""
    accessory = Accessory.model_validate(data)
    mounts = tuple(
        Mount(source=f"{prefix(place)}.{volume}", target=target) for volume, target in volumes(name, accessory)
    )
    env = {use.name: secrets[use.name] for use in accessory.secrets if use.as_ == "env" and use.name in secrets}
    return ContainerSpec(
        name=f"{prefix(place)}.accessory.{name}",
        image=accessory.image,
        command=command(accessory.command),
        env={**accessory.env, **env},
        labels=labels(place, "accessory", accessory=name, config=fingerprint(data, secrets, accessory), number=number),
        mounts=mounts + _secret_mount(secret_folder),
        network=prefix(place),
        aliases=(name,),
        address=address(place, number),
        restart=True,
        log_max_bytes=_LOG_BYTES,
    )


def volumes(name: str, accessory: Accessory) -> Iterator[tuple[str, str]]:
    """Yield (volume, path) of an accessory. Raises DefinitionError when one is not `name:/path`."""
    for text in accessory.volume:
        volume, _, path = text.partition(":")
        if not volume.replace("-", "").replace("_", "").isalnum() or not path.startswith("/"):
            raise DefinitionError(
                f"the volume `{text}` of the accessory `{name}` is not understood",
                hint="a volume is written as name:/path/in/the/container",
            )
        yield volume, path


def fingerprint(data: Mapping[str, Any], secrets: Mapping[str, str], accessory: Accessory) -> str:
    """Return a hash that changes when an accessory must be made anew."""
    used = {use.name: hashlib.sha256(secrets.get(use.name, "").encode()).hexdigest() for use in accessory.secrets}
    return hashlib.sha256(json.dumps([data, used], sort_keys=True).encode()).hexdigest()[:16]


def command(words: list[str]) -> tuple[str, ...]:
    """Return a command as words; a single text with spaces is split as a shell would, without a shell."""
    return tuple(shlex.split(words[0])) if len(words) == 1 else tuple(words)


def _secret_mount(folder: str) -> tuple[Mount, ...]:
    return (Mount(source=folder, target="/run/secrets", read_only=True),) if folder else ()
