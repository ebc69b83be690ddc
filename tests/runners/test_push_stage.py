"""Pushes to a real registry: by digest, once, with tags as copies; and what is said when it does not work."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import pytest

from pipeline.errors import DefinitionError, NotAllowed, StageFailed, Unavailable
from pipeline.model import Status
from runners import local_registry, repository
from runners.engines import ContainerSpec, Mount
from runners.registry import Registry, Repository
from runners.stages import push as push_stage
from tests.runners.yard import BASE, free_port, yard

pytestmark = pytest.mark.docker
PASSWORD = "correct horse"
HTPASSWD = "bot:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n"  # of the password above


@pytest.fixture
def place(tmp_path):
    with yard(tmp_path) as made:
        made.write({"Dockerfile": f"FROM scratch\nCOPY id /id\nLABEL test={uuid.uuid4()}\n", "id": str(uuid.uuid4())})
        yield made


@pytest.fixture
def built(place) -> str:
    return place.build().image.id


def registry_of(place, name: str = "shop") -> Registry:
    return Registry(Repository(local_registry.host(place.settings), name), place.settings)


def test_an_image_is_known_by_its_digest_and_its_tags_are_copies(place, built):
    outcome = place.push(built, tags=("v1", "latest", "v1"), written=("v1", "${{ git.tag }}", "latest", "v1"))
    host = local_registry.host(place.settings)
    assert outcome.status == Status.SUCCEEDED
    assert outcome.image.reference == f"{host}/shop@{outcome.image.digest}"
    assert (outcome.image.id, outcome.image.tags) == (built, ("v1", "latest"))
    assert (
        f"registry.example is out of reach of a local run: pushing to the local registry {host} instead" in place.said
    )
    assert "1 of 4 tags are empty in this run and left out, of: ${{ git.tag }}" in place.said
    registry = registry_of(place)
    assert registry.head("v1") == registry.head("latest") == outcome.image.digest
    assert registry.get("v1").config == built
    assert place.engine.image_id(outcome.image.reference) == built  # the engine can run it without a pull
    registry.close()


def test_pushing_again_sends_nothing_and_moves_a_tag_that_was_moved(place, built):
    first = place.push(built, tags=("live",))
    place.write({"id": str(uuid.uuid4())})
    other = place.push(place.build().image.id, tags=("live",))
    again = place.push(built, tags=("live",))
    assert (first.result["uploaded"], other.result["uploaded"], again.result["uploaded"]) == (True, True, False)
    assert "has this image already" in place.said
    assert again.image.digest == first.image.digest != other.image.digest
    registry = registry_of(place)
    assert registry.head("live") == first.image.digest
    registry.close()


def test_the_registry_is_made_once_and_survives_being_killed(place, built):
    place.push(built)
    container = f"pipe-registry-{place.db.installation[:8]}"
    first = place.engine.inspect(container).id
    place.engine.kill(container)
    assert place.engine.wait(container, timeout_seconds=30)
    place.push(built, tags=("v2",))
    assert place.engine.inspect(container).id == first
    assert place.engine.inspect(container).state == "running"


def test_a_port_that_is_somebody_elses_is_named(place, built):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.settings.registry_port))
        taken.listen()
        with pytest.raises(Unavailable, match=f"port {place.settings.registry_port} .* in use") as caught:
            place.push(built)
    assert (caught.value.cause, "PIPE_REGISTRY_PORT" in caught.value.hint) == ("registry", True)
    assert place.engine.find({"pipewright.role": "registry", "pipewright.installation": place.db.installation}) == []


def test_what_is_not_trusted_can_not_push(place, built):
    fork = replace(repository.event(place.project), trusted=False, kind="pull_request", number=3)
    with pytest.raises(NotAllowed, match="from outside"):
        place.push(built, event=fork)


def test_an_image_that_is_not_here_and_a_tag_that_is_none_are_the_authors_news(place, built):
    with pytest.raises(StageFailed, match="there is no image"):
        place.push("sha256:" + "0" * 64)
    with pytest.raises(DefinitionError, match="can not be a tag"):
        place.push(built, tags=("feature/x",))
    with pytest.raises(DefinitionError, match="not the name of a repository"):
        place.push(built, to="registry.example/Shop:v1")


def test_a_registry_that_is_not_there_is_named(place, built):
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port} can not be reached") as caught:
        place.push(built, to=f"127.0.0.1:{port}/shop", scope="")
    assert caught.value.cause == "registry"


@pytest.fixture
def guarded(place, tmp_path):
    """Start a registry that wants a login, and return its address."""
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth/htpasswd").write_text(HTPASSWD)
    host = f"127.0.0.1:{free_port()}"
    env = {"REGISTRY_HTTP_ADDR": host, "REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM": "test"}
    spec = ContainerSpec(
        name=f"pipe-test-{uuid.uuid4().hex[:12]}",
        image=place.settings.registry_image,
        env=env | {"REGISTRY_AUTH_HTPASSWD_PATH": "/auth/htpasswd"},
        labels={"pipewright.installation": place.db.installation},
        mounts=(Mount(source=str(tmp_path / "auth"), target="/auth", read_only=True),),
        network="host",
    )
    place.engine.start(place.engine.create(spec))
    from runners.logins import Login

    registry = Registry(Repository(host, "shop"), place.settings, Login("bot", PASSWORD))
    registry.ping()
    registry.close()
    return host


def test_a_login_from_the_stages_secrets_opens_the_registry(place, built, guarded):
    secrets = {"REGISTRY_USER": "bot", "REGISTRY_PASSWORD": PASSWORD}
    outcome = place.push(built, to=f"{guarded}/team/shop", tags=("v1",), scope="", secrets=secrets)
    assert outcome.image.repository == f"{guarded}/team/shop"
    assert PASSWORD not in place.said


@pytest.mark.parametrize("secrets", [{}, {"REGISTRY_USER": "bot", "REGISTRY_PASSWORD": "hunter2"}])
def test_a_wrong_or_missing_login_says_what_to_do(place, built, guarded, secrets):
    with pytest.raises(Unavailable, match=r"refuses (the login|to talk without a login)") as caught:
        place.push(built, to=f"{guarded}/team/shop", scope="", secrets=secrets)
    assert "docker login" in caught.value.hint
    assert "hunter2" not in str(caught.value) + place.said


def test_an_error_in_the_stream_of_a_push_is_an_error(place, built, guarded):
    """The daemon answers 200 and tells of the refusal only in the stream."""
    place.store.name(built, f"{guarded}/team/shop", "x")
    with pytest.raises(Unavailable, match=r"the push to .* failed") as caught:
        place.store.push(
            Repository(guarded, "team/shop"), "x", None, say=lambda text: None, cancelled=threading.Event()
        )
    assert (caught.value.cause, "docker login" in caught.value.hint) == ("registry", True)


def test_a_cancelled_push_stops(place):
    noise = f"FROM {BASE}\nRUN head -c 300000000 /dev/urandom > /noise; echo {uuid.uuid4()}\n"
    place.write({"Dockerfile": noise})
    image = place.build().image.id
    written = {"image": "${{ stages.image.image }}", "to": "registry.example/big"}
    stages = {"image": {"build": {}}, "push": {"push": written}}
    with place.work(stages, "push", filled={"push": written | {"image": image}}) as work:
        stop = threading.Timer(0.5, work.cancelled.set)
        stop.start()
        outcome = push_stage.execute(work)
        stop.join()
    assert outcome.status == Status.CANCELLED


def test_layers_are_found_in_the_registry_where_this_host_has_none(place):
    """Another host: the branch's image is gone here, and its layers too; the pushed one carries the cache inline."""
    place.write({"Dockerfile": f"FROM {BASE}\nRUN echo {uuid.uuid4()} > /id\nCOPY id /id2\n"})
    written = {"image": "${{ stages.image.image }}", "to": "registry.example/shop"}
    stages = {"image": {"build": {}}, "push": {"push": written, "needs": []}}
    first = place.build(stages=stages)
    place.push(first.image.id)
    with place.work(stages, "image") as work:
        from runners import workspace
        from runners.stages import build as build_stage

        assert build_stage.planned(work, workspace.snapshot(work)).cache_from == ()  # it is here
    for image in place.store.listing({"pipewright.installation": place.db.installation}):
        for name in image.names:
            place.store.remove(name)
    with place.work(stages, "image") as work:
        from_registry = build_stage.planned(work, workspace.snapshot(work))
    host = local_registry.host(place.settings)
    assert from_registry.cache_from == (f"{host}/shop:pipe-cache-image-main",)
    again = place.build(stages=stages)
    assert again.status == Status.SUCCEEDED
    assert again.result["cache"]["hits"] == 3
