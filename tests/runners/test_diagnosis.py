"""What is found on a machine is judged rightly, and each trouble says how to mend it."""

from __future__ import annotations

import pytest

from runners import diagnosis
from runners.diagnosis import GB, Verdict

# What `docker info` says on a plain host; each test changes what it is about.
PLAIN = {
    "ServerVersion": "26.1.5+dfsg1",
    "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
    "Name": "host",
    "Driver": "overlay2",
    "NCPU": 2,
    "MemTotal": 8 * GB,
    "CgroupVersion": "2",
    "CgroupDriver": "systemd",
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "CPUSet": True,
    "PidsLimit": True,
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "DefaultAddressPools": [{"Base": "198.18.128.0/18", "Size": 24}],
    "HttpProxy": "",
    "HttpsProxy": "",
    "ClientInfo": {"Plugins": [{"Name": "buildx", "Version": "0.13.1"}]},
}


def info(**changes: object) -> dict[str, object]:
    return {**PLAIN, **changes}


def test_a_plain_host_has_nothing_to_mend():
    checks = [
        diagnosis.engine(PLAIN),
        diagnosis.kind(PLAIN, bind_address="127.0.0.1"),
        diagnosis.limits(PLAIN),
        diagnosis.confinement(PLAIN, home="/home/a"),
        diagnosis.ways_out(PLAIN, {}),
        diagnosis.addresses(PLAIN, "198.18.192.0/18", ["0.0.0.0/0", "192.0.2.0/24"]),
    ]
    assert [(check.verdict, check.mend) for check in checks] == [(Verdict.OK, "")] * len(checks)


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("19.03.8", "fail"), ("20.10.24+dfsg1", "warn"), ("22.06.0-beta.0", "warn"), ("23.0.1", "ok"), ("28.0.0", "ok")],
)
def test_an_engine_is_judged_by_its_version(version, verdict):
    check = diagnosis.engine(info(ServerVersion=version))
    assert check.verdict == verdict
    assert version in check.detail


def test_an_engine_of_unknown_version_is_not_trusted():
    assert diagnosis.engine(info(ServerVersion="dev")).verdict == "fail"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, "rootless"),
        ({"OperatingSystem": "Docker Desktop"}, "Docker Desktop"),
        ({"SecurityOptions": ["name=userns"]}, "user namespaces"),
    ],
)
def test_an_engine_whose_host_network_is_not_ours_is_named(changes, named):
    check = diagnosis.kind(info(**changes), bind_address="127.0.0.1")
    assert check.verdict == "warn"
    assert named in check.detail
    assert check.mend


def test_selinux_names_the_folder_to_label():
    check = diagnosis.confinement(info(SecurityOptions=["name=selinux"]), home="/var/lib/ours")
    assert check.verdict == "warn"
    assert "/var/lib/ours" in check.mend


def test_missing_limits_are_named_one_by_one():
    check = diagnosis.limits(info(CgroupVersion="1", PidsLimit=False, MemoryLimit=False, SwapLimit=False))
    assert check.verdict == "warn"
    assert "missing: memory, pids." in check.detail
    assert "cgroup_enable=memory" in check.mend


def test_a_limit_that_no_stage_sets_is_not_missed():
    assert diagnosis.limits(info(CgroupVersion="1", SwapLimit=False, CPUSet=False)).verdict == "ok"


def test_a_rootless_engine_without_limits_is_told_of_delegation():
    check = diagnosis.limits(info(SecurityOptions=["name=rootless"], CpuCfsQuota=False))
    assert "Delegate=cpu" in check.mend


def test_a_missing_buildx_prevents_builds_and_a_missing_compose_does_not():
    none = info(ClientInfo={"Plugins": None})
    assert diagnosis.plugin(none, "buildx", package="x", needed_for="builds need it").verdict == "fail"
    assert diagnosis.plugin(none, "compose", package="x", needed_for="some need it").verdict == "warn"
    assert diagnosis.plugin(PLAIN, "buildx", package="x", needed_for="builds need it").detail == "0.13.1"


def test_a_plugin_that_does_not_start_is_found():
    broken = info(ClientInfo={"Plugins": [{"Name": "buildx", "Err": "exec format error"}]})
    check = diagnosis.plugin(broken, "buildx", package="docker-buildx", needed_for="builds need it")
    assert check.verdict == "fail"
    assert "exec format error" in check.detail


@pytest.mark.parametrize(
    ("its", "ours", "verdict"),
    [
        ("", {"HTTPS_PROXY": "http://way:3128", "no_proxy": "localhost, 127.0.0.1"}, "warn"),  # only we use one
        ("http://way:3128", {"https_proxy": "http://way:3128"}, "warn"),  # loopback would go through it
        ("http://way:3128", {"https_proxy": "http://way:3128", "NO_PROXY": "127.0.0.0/8"}, "ok"),
        ("http://way:3128", {}, "ok"),
    ],
)
def test_ways_out_through_proxies_are_compared(its, ours, verdict):
    check = diagnosis.ways_out(info(HttpsProxy=its), ours)
    assert check.verdict == verdict
    assert bool(check.mend) == (verdict != "ok")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("permission denied while trying to connect to the Docker daemon socket", "usermod -aG docker eve"),
        ("Cannot connect to the Docker daemon at unix:///run/x.sock. Is the docker daemon running?", "make setup"),
        ("Error response from daemon: client version 1.50 is too new. Maximum supported API version is 1.41", "26.1"),
    ],
)
def test_an_engine_that_is_silent_fails_with_the_way_to_reach_it(said, word):
    check = diagnosis.silence(said, where="unix:///run/x.sock", user="eve")
    assert check.verdict == "fail"
    assert word in check.mend


@pytest.mark.parametrize(
    ("free", "files", "verdict"),
    [(GB // 2, 0.5, "fail"), (3 * GB, 0.5, "warn"), (50 * GB, 0.001, "warn"), (50 * GB, 0.5, "ok")],
)
def test_a_disk_that_fills_up_is_told_before_it_is_full(free, files, verdict):
    assert diagnosis.disk("disk", "/var", free, files).verdict == verdict


@pytest.mark.parametrize(("skew", "verdict"), [(0.0, "ok"), (1.9, "ok"), (-3.0, "warn"), (86400.0, "warn")])
def test_clocks_that_disagree_are_found_in_both_directions(skew, verdict):
    assert diagnosis.clock(skew).verdict == verdict


@pytest.mark.parametrize(
    ("subnets", "routes", "verdict"),
    [
        ("198.18.128.0/20", [], "warn"),  # inside of the engine's own pool
        ("198.18.192.0/18", ["198.18.200.0/24"], "warn"),
        ("198.18.192.0/18", ["0.0.0.0/0"], "ok"),  # the default route is everybody's
        ("198.18.192.1/18", [], "fail"),
        ("nonsense", [], "fail"),
    ],
)
def test_the_range_of_the_environments_must_be_free(subnets, routes, verdict):
    assert diagnosis.addresses(PLAIN, subnets, routes).verdict == verdict
