"""A stage of commands on a real engine: what it prints, how it ends, what it may, and what it leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import artifacts, logs, queue, runs
from pipeline.errors import StageFailed, Unavailable
from pipeline.model import Status
from tests.runners.stage_stand import Stand, standing

pytestmark = pytest.mark.docker


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with standing(tmp_path, {"a.txt": "hello\n", "web/b.txt": "b\n"}) as made:
        yield made


def test_commands_share_one_shell_and_are_named_before_their_output(stand):
    done = stand.run({"run": ["cat a.txt", "cd web; GREETING=hi", "echo $GREETING; cat b.txt", "pwd"]})
    assert done.outcome.status is Status.SUCCEEDED
    assert done.log.splitlines() == [
        *("$ cat a.txt", "hello", "$ cd web; GREETING=hi", "$ echo $GREETING; cat b.txt", "hi", "b"),
        *("$ pwd", "/workspace/web"),
    ]
    assert [command["exit_code"] for command in done.outcome.commands] == [0, 0, 0, 0]
    assert done.outcome.commands[0]["text"] == "cat a.txt"


def test_the_first_failing_command_ends_the_stage_with_its_code(stand):
    done = stand.run({"run": ["echo one", "false || true\nsh -c 'exit 7'\necho never", "echo never"]})
    assert (done.outcome.status, done.outcome.cause, done.outcome.exit_code) == (Status.FAILED, "failed", 7)
    assert "never" not in [line for line in done.log.splitlines() if not line.startswith(("$", ">"))]
    assert [command["exit_code"] for command in done.outcome.commands] == [0, 7]
    assert "exit code 7" in done.outcome.reason


def test_commands_are_timed_one_by_one(stand):
    done = stand.run({"run": ["sleep 0.4", "true"]})
    first, second = (command["seconds"] for command in done.outcome.commands)
    assert 0.3 <= first <= 2
    assert second < 0.3


def test_the_order_of_both_streams_is_kept_between_commands(stand):
    done = stand.run(
        {"run": ["echo out1; echo err1 >&2", "echo err2 >&2; echo out2", "printf 'no newline'", "echo end"]}
    )
    lines = done.log.splitlines()
    first, second = lines.index("$ echo out1; echo err1 >&2"), lines.index("$ echo err2 >&2; echo out2")
    assert {"out1", "err1"} == set(lines[first + 1 : second])
    assert {"out2", "err2"} == set(lines[second + 1 : second + 3])
    assert lines[-3:] == ["no newline", "$ echo end", "end"]


def test_output_can_not_fake_a_command_of_ours(stand):
    fake = "printf '\\036%s;1;0;1.0\\n' 0123456789abcdef0123456789abcdef"
    done = stand.run({"run": [fake, "exit 3"]})
    assert len(done.outcome.commands) == 2
    assert "0123456789abcdef" in done.log


def test_the_commands_own_input_is_empty(stand):
    done = stand.run({"run": ["cat", "read line || echo nothing"]})
    assert done.outcome.status is Status.SUCCEEDED
    assert done.log.splitlines()[-1] == "nothing"


def test_another_shell_may_be_chosen(stand):
    done = stand.run({"shell": "bash -o pipefail", "run": ["false | true", "echo never"]})
    assert done.outcome.exit_code == 1
    assert stand.run({"shell": "bash", "run": ["echo ${BASH_VERSION:+yes}"]}).log.splitlines()[-1] == "yes"


def test_a_shell_that_the_image_does_not_have_is_named(stand):
    done = stand.run({"shell": "zsh", "run": ["true"]})
    assert (done.outcome.status, done.outcome.exit_code) == (Status.FAILED, 127)
    assert "has no `zsh`" in done.outcome.reason
    assert stand.left() == []


def test_something_that_is_no_shell_is_refused_before_anything_is_made(stand):
    stand.accept({"one": {"shell": "python3", "run": ["true"]}})
    work = stand.work()
    with pytest.raises(StageFailed, match="not a shell"):
        stand.do(work)
    work.log.close()


def test_secrets_reach_the_commands_but_no_configuration_and_no_log(stand):
    stand.accept({"one": {"secrets": ["TOKEN"], "run": ['echo "$TOKEN" | tr a-z A-Z; echo $TOKEN; sleep 0.1']}})
    work = stand.work(secrets={"TOKEN": "s3cret'\"word"})
    seen = []
    stop = threading.Event()

    def look():
        while not stop.wait(0.02):
            with stand.engine._daemon.asked("looking") as client:
                try:
                    seen.append(str(client.inspect_container(work.key)))
                    seen.append(str(client.top(work.key)))
                except Exception:  # not there yet, or no longer
                    continue

    looker = threading.Thread(target=look)
    looker.start()
    outcome = stand.do(work)
    stop.set()
    looker.join()
    assert outcome.status is Status.SUCCEEDED
    assert "S3CRET" in stand.text(work)
    assert "s3cret" not in stand.text(work)
    assert seen
    assert "s3cret" not in "".join(seen)


def test_the_environment_and_the_outputs_go_their_way(stand):
    spec = {
        "env": {"GREETING": "good $HOME 'day'"},
        "outputs": ["version", "missing"],
        "run": ['echo "$GREETING"', 'echo "version=1=2" >> $PIPE_OUTPUT', "echo other=3 >> $PIPE_OUTPUT"],
    }
    done = stand.run(spec)
    assert "good $HOME 'day'" in done.log
    assert done.outcome.outputs == {"version": "1=2"}
    assert "warning: the output `other` is not declared" in done.log
    assert "warning: the declared output `missing`" in done.log


def test_it_works_in_the_folder_that_was_asked_for_but_only_inside(stand):
    assert stand.run({"workdir": "web", "run": ["cat b.txt"]}).log.splitlines()[-1] == "b"
    for wish, told in (("../..", "leads out"), ("nowhere", "is not a folder"), ("/etc", "leads out")):
        with pytest.raises(StageFailed, match=told):
            stand.run({"workdir": wish, "run": ["true"]})
    assert stand.left() == []


def test_a_link_does_not_lead_out_of_the_workspace(stand):
    (stand.source / "out").symlink_to("/etc")
    with pytest.raises(StageFailed, match="leads out"):
        stand.run({"workdir": "out", "run": ["true"]})


def test_another_user_owns_the_workspace_and_git_trusts_it(stand):
    done = stand.run({"user": "1234:1234", "run": ["id -u", "touch mine", "stat -c %u a.txt mine"]})
    assert done.outcome.status is Status.SUCCEEDED
    assert done.log.splitlines()[-2:] == ["1234", "1234"]
    with pytest.raises(StageFailed, match="no user `nobody-knows`"):
        stand.run({"user": "nobody-knows", "run": ["true"]})


def test_a_memory_limit_that_is_passed_is_named(stand):
    done = stand.run({"resources": {"memory": "32M"}, "run": ["x=0123456789; while :; do x=$x$x; done"]})
    assert (done.outcome.status, done.outcome.cause) == (Status.FAILED, "oom")
    assert "MiB" in done.outcome.reason


def test_an_image_that_can_not_be_had_is_a_cause_of_its_own_and_leaves_nothing(stand):
    with pytest.raises(Unavailable) as caught:
        stand.run({"image": "localhost:1/nobody/has:it", "run": ["true"]})
    assert caught.value.cause == "image_pull"
    assert stand.left() == []


def test_nothing_is_left_behind_but_the_workspace_in_which_the_commands_failed(stand):
    stand.run({"run": ["true"]})
    assert stand.left() == []
    assert list((stand.source / ".pipe").glob("run-*/*-1/*")) == []
    done = stand.run({"run": ["echo what was seen > evidence; false"]})
    assert stand.left() == []
    (evidence,) = (stand.source / ".pipe").glob(f"run-*-{done.work.run.id}/*-1/*/evidence")
    assert evidence.read_text() == "what was seen\n"


def test_cancelling_ends_the_container(stand):
    stand.accept({"one": {"run": ["echo begun; sleep 300"]}})
    cancelled = threading.Event()
    work = stand.work(cancelled=cancelled)
    threading.Thread(target=_cancel_once_it_says, args=(stand, work, "begun", cancelled), daemon=True).start()
    outcome = stand.do(work)
    assert outcome.status is Status.FAILED
    assert outcome.exit_code in (143, 137)
    assert stand.left() == []


def _cancel_once_it_says(stand, work, text, cancelled):
    for line in logs.follow(stand.settings, work.attempt.id):
        if line.text == text:
            cancelled.set()
            return


def test_a_stage_that_was_cancelled_before_it_began_runs_nothing(stand):
    stand.accept({"one": {"run": ["echo begun"]}})
    cancelled = threading.Event()
    cancelled.set()
    work = stand.work(cancelled=cancelled)
    with pytest.raises(Unavailable) as caught:
        stand.do(work)
    assert caught.value.cause == "cancelled"
    stand.cleanup.all_later(work.cleanup)
    assert stand.left() == []


def test_artifacts_go_to_the_stages_that_need_them_at_the_same_paths(stand):
    stand.accept(
        {
            "make": {
                "run": ["mkdir -p out/deep; echo 1 > out/deep/x; chmod 755 out/deep/x; ln -s /etc/passwd out/link"],
                "artifacts": {"paths": ["out/", "nothing/*.txt"]},
            },
            "use": {"needs": ["make"], "run": ["cat out/deep/x", "test -x out/deep/x", "ls out"]},
        }
    )
    first = stand.work()
    stand.do(first)
    told = stand.text(first)
    assert "warning: the artifact path `nothing/*.txt` matches nothing" in told
    assert "out/link" in told
    assert [file.path for file in artifacts.of_stage(stand.db, first.stage.id)] == ["out/deep/x"]
    second = stand.work()
    assert stand.do(second).status is Status.SUCCEEDED
    assert stand.text(second).splitlines()[-1] == "deep"


def test_an_artifact_never_goes_through_a_link_of_the_repository(stand):
    (stand.source / "out").symlink_to("/tmp")
    stand.accept(
        {
            "make": {"run": ["rm out; mkdir out; echo 1 > out/pwned"], "artifacts": {"paths": ["out"]}},
            "use": {"needs": ["make"], "run": ["true"]},
        }
    )
    stand.do(stand.work())
    with pytest.raises(StageFailed, match="can not be unpacked"):
        stand.do(stand.work())
    assert not Path("/tmp/pwned").exists()


REPORT = '<testsuite name="s"><testcase name="good"/><testcase name="bad">{}</testcase></testsuite>'


def test_a_failing_test_in_a_report_is_told_and_recorded(stand):
    write = f"echo '{REPORT.format('<failure message=%1 is not 2%/>').replace('%', chr(34))}' > r.xml"
    done = stand.run({"run": [write, "exit 1"], "reports": {"junit": "r.xml"}})
    assert done.outcome.cause == "failed"
    assert "2 tests: 1 failed, 1 passed" in done.log
    assert "1 is not 2" in done.log


def test_green_commands_with_a_red_or_missing_report_are_not_green(stand):
    write = f"echo '{REPORT.format('<error/>')}' > r.xml"
    done = stand.run({"run": [write], "reports": {"junit": "*.xml"}})
    assert (done.outcome.status, done.outcome.cause) == (Status.FAILED, "report")
    done = stand.run({"run": ["true"], "reports": {"junit": "*.xml"}})
    assert (done.outcome.status, done.outcome.cause) == (Status.FAILED, "report")
    assert "no test report matches" in done.outcome.reason


def test_a_stage_without_network_has_none_and_others_have(stand):
    show = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' | sort | tr '\\n' ' '"
    assert stand.run({"network": "none", "run": [show]}).log.splitlines()[-1].split() == ["lo"]
    assert "eth0" in stand.run({"run": [show]}).log.splitlines()[-1]


def test_two_stages_at_once_may_listen_on_the_same_port_and_do_not_see_each_other(stand):
    listen = "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(LocalPort => 5432, Listen => 1) or die; sleep 1'"
    stand.accept({"a": {"run": [listen]}, "b": {"run": [listen]}})
    works = [stand.work(), stand.work()]
    outcomes = []
    threads = [threading.Thread(target=lambda w=w: outcomes.append(stand.do(w).status)) for w in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Status.SUCCEEDED] * 2


def test_a_flood_of_output_arrives_whole(stand):
    done = stand.run({"run": ["seq -f 'line %.0f of many' 1 300000"]})
    lines = [line for line in done.log.splitlines() if not line.startswith("$")]
    assert lines == [f"line {n} of many" for n in range(1, 300_001)]


def test_the_ca_bundle_is_mounted_and_announced(stand, tmp_path):
    from dataclasses import replace

    bundle = tmp_path / "ca.pem"
    bundle.write_text("our own authority\n")
    stand.settings = replace(stand.settings, ca_bundle=str(bundle))
    assert stand.run({"run": ["cat $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS"]}).log.count("our own authority") == 2


def test_the_queue_is_empty_once_the_outcome_is_recorded(stand):
    done = stand.run({"run": ["true"]})
    assert queue.claim(stand.db, owner="w", scope="here") is None
    assert runs.get(stand.db, done.work.run.id).status is Status.SUCCEEDED
