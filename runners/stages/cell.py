"""The container of a stage as a value: what it mounts, what it is told, what it may not do.

And what goes in and comes out where nothing can be mounted. The workspace is at /workspace; commands start in the
folder of the pipeline's file in it, or in `workdir`, which must stay inside.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import StageFailed, Unavailable
from runners.engines import ContainerSpec, Mount
from runners.sandboxes import LABEL
from runners.stages import handover, shell
from runners.stages.user import User
from runners.workspace import Workspace, pack

if TYPE_CHECKING:
    from runners.stages import Work

ROOT = "/workspace"
OUTPUT = "/pipe/output"
ROLE = "pipewright.role"
_CA = "/pipe/ca.pem"
_CA_NAMES = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"),
)
_PIDS = 4096  # a fork bomb ends here; far more than a build needs


def workdir(workspace: Workspace, wish: str | None) -> str:
    """Return where commands start, in the container. Raises StageFailed when that is not a folder of the workspace."""
    top = workspace.path.resolve()
    if wish and wish.startswith(f"{ROOT}/"):
        folder = (workspace.path / wish.removeprefix(f"{ROOT}/")).resolve()
    else:
        folder = (workspace.folder / (wish or "")).resolve()
    if not folder.is_relative_to(top):
        raise StageFailed(
            f"`workdir: {wish}` leads out of the workspace",
            hint="name a folder of the repository, without `..` or links",
        )
    if not folder.is_dir():
        raise StageFailed(
            f"`workdir: {wish}` is not a folder of the workspace",
            hint="check its spelling; it is relative to the folder of the pipeline's file",
        )
    return str(PurePosixPath(ROOT, folder.relative_to(top).as_posix()))


def environment(work: Work, workspace: Workspace) -> dict[str, str]:
    """Return everything that is not secret."""
    trust = dict.fromkeys(_CA_NAMES, _CA) if work.settings.ca_bundle else {}
    return {**trust, **workspace.env, **work.env, "PIPE_OUTPUT": OUTPUT, "PIPE_WORKSPACE": ROOT}


def files(work: Work, workspace: Workspace, output: Path) -> tuple[Mount, ...]:
    """Return the mounts for an engine that sees this machine's files. Raises Unavailable for a missing CA bundle."""
    mounts = [
        Mount(source=str(workspace.path.resolve()), target=ROOT),
        Mount(source=str(output.resolve()), target=OUTPUT),
    ]
    if work.settings.ca_bundle:
        bundle = Path(work.settings.ca_bundle).resolve()
        if not bundle.is_file():
            raise Unavailable(f"the CA bundle {bundle} is not there", hint="correct PIPE_CA_BUNDLE, or unset it")
        mounts.append(Mount(source=str(bundle), target=_CA, read_only=True))
    return tuple(mounts)


def spec(
    work: Work, *, env: Mapping[str, str], mounts: tuple[Mount, ...], folder: str, network: str, sandbox: str
) -> ContainerSpec:
    """Return the stage's container."""
    resources = work.spec.resources
    return ContainerSpec(
        name=work.key,
        image=work.spec.image or "",
        entrypoint=shell.argv(work.spec.shell),
        env=env,
        labels={**work.labels, ROLE: "stage", LABEL: sandbox},
        workdir=folder,
        user=work.spec.user or "",
        mounts=mounts,
        network=network,
        cpus=resources.cpus if resources else None,
        memory_bytes=resources.memory if resources else None,
        pids=(resources.pids if resources else None) or _PIDS,
        stdin=True,
    )


def send(work: Work, workspace: Workspace, user: User, output: Path) -> None:
    """Copy into a created container what an engine that does not see this machine's files can not mount."""
    engine = work.engine
    engine.copy_in(work.key, "/", _folders(user))
    engine.copy_in(work.key, ROOT, pack(workspace))
    engine.copy_in(work.key, "/pipe", _file("output", output.read_bytes(), 0o666))
    if work.settings.ca_bundle:
        engine.copy_in(work.key, "/pipe", _file("ca.pem", Path(work.settings.ca_bundle).read_bytes(), 0o644))


def take_back(work: Work, workspace: Workspace, output: Path) -> None:
    """Copy the workspace and the outputs out of a container that has ended, plain files only."""
    if (archive := work.engine.copy_out(work.key, ROOT)) is not None:
        handover.take_back(archive, workspace.path)
    if (archive := work.engine.copy_out(work.key, OUTPUT)) is not None:
        output.write_bytes(handover.only_file(archive))


def _folders(user: User) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, owner in (("workspace", user), ("pipe", None)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            if owner:
                info.uid, info.gid = owner.uid, owner.gid
            tar.addfile(info)
    archive.seek(0)
    return archive


def _file(name: str, data: bytes, mode: int) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        tar.addfile(info, io.BytesIO(data))
    archive.seek(0)
    return archive
