"""What every Engine must do, run on the dummy and on a real Docker Engine, so that the dummy can not lie."""

from __future__ import annotations

import io
import tarfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from pipeline import settings
from pipeline.errors import NeedsAttention, StageFailed, Unavailable
from runners.engines import Container, ContainerSpec, Engine, Mount
from runners.engines.docker import DockerEngine
from runners.engines.dummy import DummyEngine
from runners.engines.dummy_world import Process, World

IMAGE = "pipewright/debian:12"


def speak(process: Process) -> int:
    process.write(b"to out\n")
    process.write(b"to err\n", "err")
    return 3


def echo_input(process: Process) -> int:
    process.write(process.read_input())
    return 0


def show_file(process: Process) -> int:
    process.write(process.files["/tmp/given/note"])
    process.files["/tmp/made/one"] = b"1"
    return 0


def say_and_sleep(process: Process) -> int:
    process.write(b"up\n")
    return process.forever()


def flood(process: Process) -> int:
    for number in range(1, 100_001):
        process.write(b"line %d\n" % number)
    return 0


# The same behaviour twice: as a command for a real shell, and as a script for the dummy.
PROGRAMS = {
    "speak": ("echo to out; echo to err >&2; exit 3", speak),
    "echo input": ("cat", echo_input),
    "show file": ("cat /tmp/given/note; mkdir -p /tmp/made; printf 1 > /tmp/made/one", show_file),
    "flood": ("seq -f 'line %.0f' 1 100000", flood),
    "sleep": ("exec sleep 600", Process.forever),
    "say and sleep": ("echo up; exec sleep 600", say_and_sleep),
}


@dataclass
class Bench:
    """An engine to test, and what was made on it."""

    engine: Engine
    world: World | None
    installation: str
    names: list[str] = field(default_factory=list)

    def spec(self, program: str, **wishes: object) -> ContainerSpec:
        name = f"pipe-contract-{uuid.uuid4().hex[:12]}"
        self.names.append(name)
        command, script = PROGRAMS[program]
        image = IMAGE
        if self.world is not None:
            image = f"{IMAGE}-{program}"
            self.world.images[image] = script
        spec = ContainerSpec(name=name, image=image, entrypoint=("sh", "-c"), command=(command,), labels=self.labels)
        return replace(spec, **wishes)  # type: ignore[arg-type]

    @property
    def labels(self) -> dict[str, str]:
        return {"pipewright.installation": self.installation, "pipewright.run": "7"}

    def again(self) -> Engine:
        """Return what a new process would have after this one died."""
        if self.world is not None:
            return DummyEngine(self.world, self.installation)
        return DockerEngine(settings.load(), self.installation)

    def run(self, program: str, **wishes: object) -> tuple[str, dict[str, bytes]]:
        spec = self.spec(program, **wishes)
        self.engine.create(spec)
        attached = self.engine.attach(spec.name)
        self.engine.start(spec.name)
        output = {"out": b"", "err": b""}
        for stream, data in attached:
            output[stream] += data
        attached.close()
        return spec.name, output


@pytest.fixture(params=["dummy", pytest.param("docker", marks=pytest.mark.docker)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    installation = f"contract-{uuid.uuid4().hex[:8]}"
    if request.param == "dummy":
        world = World(missing={"no-such-shell"}, commands={"printenv": lambda process, command: (0, b"cake\n")})
        yield Bench(DummyEngine(world, installation), world, installation)
        return
    engine = DockerEngine(settings.load(), installation)
    yield Bench(engine, None, installation)
    for container in engine.find({}):
        engine.remove(container.id)
    engine.close()


def seen(bench: Bench, name: str) -> Container:
    found = bench.engine.inspect(name)
    assert found is not None
    return found


def test_output_and_exit_code_of_both_streams_arrive(bench: Bench) -> None:
    name, output = bench.run("speak")
    assert output == {"out": b"to out\n", "err": b"to err\n"}
    ended = bench.engine.wait(name)
    assert ended is not None
    assert (ended.code, ended.oom) == (3, False)


def test_no_line_of_a_flood_is_lost_or_out_of_order(bench: Bench) -> None:
    name, output = bench.run("flood")
    assert output["out"].splitlines() == [b"line %d" % number for number in range(1, 100_001)]
    assert bench.engine.wait(name) is not None


def test_the_log_gives_all_output_again_from_the_first_byte(bench: Bench) -> None:
    name, output = bench.run("flood")
    bench.engine.wait(name)
    again = bench.again()
    assert b"".join(data for stream, data in again.logs(name) if stream == "out") == output["out"]
    again.close()  # type: ignore[attr-defined]


def test_what_is_written_reaches_the_standard_input(bench: Bench) -> None:
    spec = bench.spec("echo input", stdin=True)
    bench.engine.create(spec)
    attached = bench.engine.attach(spec.name)
    bench.engine.start(spec.name)
    attached.write(b"secret words\n")
    attached.end_input()
    assert b"".join(data for _, data in attached) == b"secret words\n"
    attached.close()


def test_creating_the_same_container_again_adopts_it(bench: Bench) -> None:
    spec = bench.spec("sleep")
    first = bench.engine.create(spec)
    assert bench.engine.create(spec) == first
    assert len(bench.engine.find(spec.labels)) == 1


def test_a_foreign_container_of_that_name_is_not_adopted(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    with pytest.raises(NeedsAttention, match=spec.name):
        bench.engine.create(replace(spec, labels={**spec.labels, "pipewright.run": "8"}))


def test_starting_a_running_container_again_changes_nothing(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    assert seen(bench, spec.name).state == "created"
    bench.engine.start(spec.name)
    bench.engine.start(spec.name)
    assert seen(bench, spec.name).state == "running"


def test_waiting_has_a_deadline_and_says_that_it_still_runs(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    assert bench.engine.wait(spec.name, timeout_seconds=0.2) is None
    assert seen(bench, spec.name).exit is None


def test_a_signal_ends_a_container_and_is_told_by_its_code(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    bench.engine.kill(spec.name)
    ended = bench.engine.wait(spec.name)
    assert ended is not None
    assert ended.code == 137
    bench.engine.kill(spec.name)  # it has ended: no error


def test_stopping_asks_first_and_is_idempotent(bench: Bench) -> None:
    spec = bench.spec("say and sleep")
    bench.engine.create(spec)
    attached = bench.engine.attach(spec.name)
    bench.engine.start(spec.name)
    assert next(iter(attached)) == ("out", b"up\n")  # an init that has not begun yet ignores signals
    bench.engine.stop(spec.name, grace_seconds=30)
    attached.close()
    ended = seen(bench, spec.name).exit
    assert ended is not None
    assert ended.code == 143
    bench.engine.stop(spec.name, grace_seconds=30)


def test_the_reader_of_an_attached_stream_is_woken_by_close(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    attached = bench.engine.attach(spec.name)
    bench.engine.start(spec.name)
    reader = threading.Thread(target=lambda: list(attached))
    reader.start()
    bench.engine.remove(spec.name)
    reader.join(20)
    assert not reader.is_alive()
    attached.close()
    attached.close()


def test_removing_is_idempotent_and_leaves_nothing(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    bench.engine.remove(spec.name)
    bench.engine.remove(spec.name)
    assert bench.engine.inspect(spec.name) is None
    assert bench.engine.find({}) == []


def test_what_ended_while_nobody_looked_is_read_and_not_guessed(bench: Bench) -> None:
    name, _ = bench.run("speak")
    bench.engine.wait(name)
    again = bench.again()
    (found,) = again.find({"pipewright.run": "7"})
    assert (found.name, found.state) == (name, "exited")
    assert found.exit is not None
    assert found.exit.code == 3
    ended = again.wait(name)
    assert ended is not None
    assert ended.code == 3
    again.close()  # type: ignore[attr-defined]


def test_only_containers_of_the_installation_are_found(bench: Bench) -> None:
    bench.engine.create(bench.spec("sleep"))
    assert bench.engine.find({"pipewright.run": "8"}) == []
    assert len(bench.engine.find({})) == 1


def test_an_ephemeral_container_goes_away_by_itself(bench: Bench) -> None:
    spec = bench.spec("sleep", ephemeral=True)
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    bench.engine.kill(spec.name)
    bench.engine.remove(spec.name)
    assert bench.engine.inspect(spec.name) is None


def test_an_image_that_can_not_be_pulled_is_named_with_its_cause(bench: Bench) -> None:
    spec = bench.spec("sleep", image="localhost:1/no-such-image:1")
    with pytest.raises(Unavailable, match="no-such-image") as caught:
        bench.engine.create(spec)
    assert caught.value.cause == "image_pull"
    assert caught.value.hint
    assert bench.engine.find({}) == []


def test_a_program_that_the_image_does_not_have_is_the_authors_news(bench: Bench) -> None:
    spec = bench.spec("sleep", entrypoint=("no-such-shell",), init=False)
    bench.engine.create(spec)
    with pytest.raises(StageFailed, match="no-such-shell") as caught:
        bench.engine.start(spec.name)
    assert caught.value.code == 127
    assert IMAGE in caught.value.message


def test_under_an_init_a_program_that_is_not_there_is_exit_code_127(bench: Bench) -> None:
    name, output = bench.run("sleep", entrypoint=("no-such-shell",))
    ended = bench.engine.wait(name)
    assert ended is not None
    assert ended.code == 127
    assert b"No such file" in output["err"]


def test_files_go_in_before_the_start_and_come_out_after_the_end(bench: Bench) -> None:
    spec = bench.spec("show file")
    bench.engine.create(spec)
    bench.engine.copy_in(spec.name, "/tmp", _archive("given/note", b"hello"))
    attached = bench.engine.attach(spec.name)
    bench.engine.start(spec.name)
    assert b"".join(data for _, data in attached) == b"hello"
    attached.close()
    bench.engine.wait(spec.name)
    packed = bench.engine.copy_out(spec.name, "/tmp/made")
    assert packed is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed)), mode="r:") as archive:
        taken = archive.extractfile("made/one")
        assert taken is not None
        assert taken.read() == b"1"
    assert bench.engine.copy_out(spec.name, "/tmp/never") is None


def test_a_command_in_a_running_container_tells_its_code_and_output(bench: Bench) -> None:
    spec = bench.spec("sleep")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    assert bench.engine.execute(spec.name, ("printenv", "X"), env={"X": "cake"}) == (0, b"cake\n")
    code, _ = bench.engine.execute(spec.name, ("no-such-program",))
    assert code in (126, 127)


def test_networks_and_volumes_are_made_once_and_removed_once(bench: Bench) -> None:
    name = f"pipe-contract-{uuid.uuid4().hex[:8]}"
    for _ in range(2):
        bench.engine.ensure_network(name, labels=bench.labels, isolated=True)
        bench.engine.ensure_volume(name, labels=bench.labels)
    stranger = (
        DummyEngine(bench.world, "somebody else")
        if bench.world is not None
        else DockerEngine(settings.load(), "somebody else")
    )
    with pytest.raises(NeedsAttention, match="belongs to somebody else"):
        stranger.ensure_network(name, labels={})
    assert name not in {**stranger.networks({}), **stranger.volumes({})}
    stranger.close()
    assert bench.engine.networks({"pipewright.run": "7"}) == {name: bench.labels}
    assert bench.engine.volumes({}) == {name: bench.labels}
    assert bench.engine.networks({"pipewright.run": "8"}) == {}
    for _ in range(2):
        bench.engine.remove_network(name)
        bench.engine.remove_volume(name)


def test_an_image_is_known_by_its_id_or_not_at_all(bench: Bench) -> None:
    image = bench.spec("sleep").image
    assert (bench.engine.image_id(image) or "").startswith("sha256:")
    assert bench.engine.image_id("localhost:1/no-such-image:1") is None
    bench.engine.remove_image("localhost:1/no-such-image:1")


@pytest.mark.docker
def test_the_container_has_no_more_rights_than_it_was_given() -> None:
    engine = DockerEngine(settings.load(), f"contract-{uuid.uuid4().hex[:8]}")
    bench = Bench(engine, None, "")
    show = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; ls /var/run/docker.sock; cat /proc/1/comm"
    spec = replace(bench.spec("sleep"), command=(show,), labels={}, memory_bytes=64 << 20, pids=64, cpus=0.5)
    spec = replace(spec, mounts=(Mount(source="", target="/memory"),))
    try:
        engine.create(spec)
        attached = engine.attach(spec.name)
        engine.start(spec.name)
        output = b"".join(data for _, data in attached).decode()
        attached.close()
    finally:
        engine.remove(spec.name)
        engine.close()
    bits = {0: "CHOWN", 1: "DAC", 3: "FOWNER", 4: "FSETID", 5: "KILL", 6: "SETGID", 7: "SETUID", 10: "BIND"}
    expected = sum(1 << bit for bit in bits)
    assert f"CapEff:\t{expected:016x}" in output
    assert f"CapBnd:\t{expected:016x}" in output
    assert "NoNewPrivs:\t1" in output
    assert "No such file" in output
    assert "docker-init" in output


@pytest.mark.docker
def test_a_container_over_its_memory_limit_is_known_as_such() -> None:
    engine = DockerEngine(settings.load(), f"contract-{uuid.uuid4().hex[:8]}")
    eat = "x=0123456789; while :; do x=$x$x; done"
    spec = replace(Bench(engine, None, "").spec("sleep"), command=(eat,), labels={}, memory_bytes=32 << 20)
    try:
        engine.create(spec)
        engine.start(spec.name)
        ended = engine.wait(spec.name)
    finally:
        engine.remove(spec.name)
        engine.close()
    assert ended is not None
    assert (ended.code, ended.oom) == (137, True)


def test_a_daemon_that_is_not_there_is_named_with_what_to_do() -> None:
    chosen = replace(settings.load({"HOME": "/root"}), engine_url="unix:///nowhere/docker.sock")
    engine = DockerEngine(chosen, "x")
    with pytest.raises(Unavailable, match="no Docker engine answers at unix:///nowhere") as caught:
        engine.find({})
    assert "make setup" in caught.value.hint
    engine.close()


def _archive(name: str, data: bytes) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    packed.seek(0)
    return packed
