"""Send a built image to a registry, by digest, and give it its tags there.

Idempotent: the image goes under a tag made of its own id; when the registry has that, with the
configuration of exactly this image, nothing is sent. Further tags are copies of the manifest. An image is
known by its digest only after the registry's manifest was seen to hold the configuration that was built.
"""

from __future__ import annotations

from pipeline import builds
from pipeline.errors import NeedsAttention, NotAllowed, StageFailed
from pipeline.faults import point
from pipeline.model import Image, Outcome, Status
from runners import destinations, images, local_registry, logins
from runners.image_store import ImageStore
from runners.registry import Manifest, Registry, Repository, check_tag, is_here, parse
from runners.stages import Work


def execute(work: Work) -> Outcome:
    """Push the stage's image.

    Raises:
        StageFailed: there is no such image here.
        NotAllowed: the run is of a change that is not trusted.
        NeedsAttention: the registry holds something else than what was sent.
        Unavailable: registry, login or engine are not in order.
    """
    spec = work.spec.push
    assert spec is not None
    if not work.run.trusted:
        raise NotAllowed("a change from outside can not push images", hint="Merge it, or let a member run it.")
    image = work.engine.image_id(spec.image)
    if image is None:
        raise StageFailed(f"there is no image {spec.image or '(empty)'} here", hint="`image` names a built one.")
    builds.use(work.db, image)
    tags = _tags(work)
    to = _destination(work)
    login = logins.find(to.host, work.secrets)
    registry = Registry(to, work.settings, login, cancelled=work.cancelled)
    try:
        sent = _send(work, registry, image, login)
        if sent is None:
            return Outcome(status=Status.CANCELLED, reason="the push was stopped")
        manifest, uploaded = sent
        point("push.manifest")
        _tag(work, registry, manifest, tags)
    finally:
        registry.close()
    work.log.say(f"pushed {to}@{manifest.digest}")
    pushed = Image(id=image, repository=str(to), digest=manifest.digest, tags=tuple(tags))
    point("push.recorded")
    return Outcome(
        status=Status.SUCCEEDED,
        image=pushed,
        outputs={"digest": manifest.digest, "reference": pushed.reference},
        result={"uploaded": uploaded, "repository": str(to), "digest": manifest.digest, "tags": tags},
    )


def _tags(work: Work) -> list[str]:
    """Return the tags without the empty ones, which are named: a run that is of no tag has no `git.tag`."""
    assert work.spec.push is not None
    tags = [tag.strip() for tag in work.spec.push.tags if tag.strip()]
    written = [str(tag) for tag in (work.stage.spec.get("push") or {}).get("tags") or ()]  # type: ignore[attr-defined]
    if len(tags) < len(written):
        filled = [tag for tag in written if "${{" in tag]
        count = len(written) - len(tags)
        work.log.say(f"{count} of {len(written)} tags are empty in this run and left out, of: {', '.join(filled)}")
    return list(dict.fromkeys(check_tag(tag) for tag in tags))


def _destination(work: Work) -> Repository:
    assert work.spec.push is not None
    to = destinations.destination(work, work.spec.push.to)
    if work.run.scope:
        written = parse(work.spec.push.to)
        if not is_here(written.host):
            work.log.say(
                f"{written.host} is out of reach of a local run: pushing to the local registry {to.host} instead"
            )
        local_registry.ensure(work.engine, work.settings, work.db.installation)
    return to


def _send(work: Work, registry: Registry, image: str, login: logins.Login | None) -> tuple[Manifest, bool] | None:
    """Return the manifest of exactly this image, and whether something was sent for it; None when cancelled."""
    content = images.content_tag(image)
    there = registry.get(content)
    if there is not None and _holds(there, image):
        work.log.say(f"{registry.repository} has this image already")
        with ImageStore(work.settings) as store:
            store.name(image, str(registry.repository), content)
        return there, False
    point("push.uploading")
    work.log.say(f"pushing to {registry.repository}")
    with ImageStore(work.settings) as store:
        store.name(image, str(registry.repository), content)
        digest = store.push(registry.repository, content, login, say=work.log.say, cancelled=work.cancelled)
    if not digest:
        return None
    manifest = registry.get(digest)
    if manifest is None or not _holds(manifest, image):
        raise NeedsAttention(
            f"{registry.repository}@{digest} does not hold the image {image} that was sent there",
            hint="Does something between here and the registry change images?",
        )
    return manifest, True


def _holds(manifest: Manifest, image: str) -> bool:
    """Tell whether a manifest is of this image; an engine with containerd's store names images by manifest."""
    return image in (manifest.config, manifest.digest)


def _tag(work: Work, registry: Registry, manifest: Manifest, tags: list[str]) -> None:
    for tag in tags:
        if registry.head(tag) != manifest.digest:
            registry.put(tag, manifest)
        work.log.say(f"tagged {registry.repository}:{tag}")
    cache = _cache_tag(work)
    if cache and registry.head(cache) != manifest.digest:
        registry.put(cache, manifest)


def _cache_tag(work: Work) -> str:
    """Return the tag under which other hosts find the layers of this branch."""
    stages = work.run.definition.get("stages")
    written = (stages.get(work.stage.base) or {}).get("push") if isinstance(stages, dict) else None
    built = destinations.built_by(written) if written else ""
    return images.cache_tag(built, images.line_of(work)) if built else ""
