"""Hostile URLs and refs are refused before git sees them; what git sees can not run anything."""

from __future__ import annotations

import time

import pytest

from pipeline.errors import DefinitionError, PipeError, Unavailable
from runners import addresses, git, mirrors
from runners.repository import locate
from tests.runners.stand import repository, settings_in

SHA = "1" * 40
HOSTILE_URLS = [
    "ext::sh -c 'touch CANARY'",
    "ext::touch% CANARY",
    "EXT::touch CANARY",
    "fd::7",
    "fd::0,1",
    "--upload-pack=touch CANARY",
    "-u touch CANARY",
    "--config=core.sshCommand=touch CANARY",
    "-oProxyCommand=touch CANARY",
    "ssh://-oProxyCommand=touch CANARY/x",
    "ssh://-oProxyCommand=touch$IFS CANARY@host/x",
    "-oProxyCommand=touch CANARY:x",
    "git@-oProxyCommand=touch CANARY:x",
    "file:///etc/passwd",
    "file://CANARY",
    "/etc/passwd",
    "../../etc",
    ".",
    "",
    " ",
    "http://host.example/x.git",
    "git://host.example/x.git",
    "ftp://host.example/x",
    "ftps://host.example/x",
    "rsync://host.example/x",
    "data:text/plain,x",
    "https://user:password@host.example/x.git",
    "https://token@host.example/x.git",
    "https://host.example/x.git --upload-pack=touch CANARY",
    "https://host.example/x.git\n--upload-pack=touch CANARY",
    "https://host.example/x\0y",
    "https://host.example/$(touch CANARY)",
    "https://host.example/`touch CANARY`",
    "https://host.example/x;touch CANARY",
    "https://host.example/x|touch CANARY",
    "https://host.example/../../x",
    "https:///x.git",
    "https://:443/x",
    "https://[::1/x",
    "https://host.example:99999999/x",
    "https://höst.example/x.git",
    "https://host.example//x",
    "ssh://host.example/-x",
    "git@host.example:-x",
    "git@host.example:/-x",
    "transport::https://host.example/x",
    "https::https://host.example/x",
    "javascript:alert(1)",
    "https://" + "a" * 3000,
]
HOSTILE_REFS = [
    "--upload-pack=touch CANARY",
    "-x",
    "main",
    "refs/heads/-x",
    "refs/heads/a b",
    "refs/heads/a..b",
    "refs/heads/a~1",
    "refs/heads/a^",
    "refs/heads/a:b",
    "+refs/heads/a",
    "refs/heads/a?",
    "refs/heads/*",
    "refs/heads/[a]",
    "refs/heads/a\\b",
    "refs/heads/a@{1}",
    "refs/heads/.a",
    "refs/heads/a.lock",
    "refs/heads/a.lock/b",
    "refs/heads/a.",
    "refs/heads/",
    "refs//heads",
    "refs/heads/a\n",
    "refs/heads/a\0",
    "refs/heads/\x7f",
    "",
    "refs/heads/" + "a" * 600,
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_url_is_refused_at_once_and_runs_nothing(url, tmp_path):
    canary = tmp_path / "canary"
    begun = time.monotonic()
    with pytest.raises(DefinitionError, match="plain https or ssh URL"):
        mirrors.of_url(settings_in(tmp_path), url.replace("CANARY", str(canary)), ref="refs/heads/main", sha=SHA)
    assert time.monotonic() - begun < 1
    assert not canary.exists()


@pytest.mark.parametrize("ref", HOSTILE_REFS)
def test_a_hostile_ref_is_refused_and_runs_nothing(ref, tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(DefinitionError, match="full name of a git ref"):
        mirrors.of_url(
            settings_in(tmp_path), "https://localhost/x.git", ref=ref.replace("CANARY", str(canary)), sha=SHA
        )
    assert not canary.exists()


@pytest.mark.parametrize("sha", ["", "HEAD", "abc", "--all", "1" * 39, "1" * 41, "G" * 40, "1" * 40 + "\n"])
def test_a_commit_is_named_by_its_full_id(sha, tmp_path):
    with pytest.raises(DefinitionError, match="not a full commit id"):
        mirrors.of_url(settings_in(tmp_path), "https://localhost/x.git", ref="refs/heads/main", sha=sha)


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_also_without_the_allow_list_git_runs_nothing(url, tmp_path):
    """The second wall: the flags and variables under which git is called hold by themselves."""
    canary = tmp_path / "canary"
    if "\0" in url:
        return
    done = git.strict("ls-remote", "--", url.replace("CANARY", str(canary)), at=tmp_path, timeout_seconds=5)
    assert not done.ok
    assert not canary.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://host.example/team/shop.git",
        "https://host.example:8443/a/b",
        "ssh://git@host.example/a/b.git",
        "git@host.example:a/b.git",
        "https://[2001:db8::1]/x.git",
        "ssh://git@host.example:2222/~me/x",
        "https://host.example/a%20b.git",
    ],
)
def test_plain_urls_pass(url):
    assert git.check_url(url) == url


@pytest.mark.parametrize(
    "ref", ["refs/heads/main", "refs/heads/feature/ä#1", "refs/tags/v1.0", "refs/heads/$(id)", "refs/pull/7/head"]
)
def test_refs_that_git_would_accept_pass(ref):
    assert git.check_ref(ref) == ref


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "::ffff:169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "fd00:ec2::254",
        "2002:a9fe:a9fe::",
        "100.100.100.200",
    ],
)
def test_addresses_of_the_link_and_of_metadata_are_refused_however_spelt(host):
    with pytest.raises(Unavailable, match="no repository or registry may be"):
        addresses.check(host)


def test_the_machine_itself_and_private_networks_may_hold_registries():
    assert addresses.check("127.0.0.1") == ["127.0.0.1"]
    assert addresses.check("10.1.2.3") == ["10.1.2.3"]


def test_a_host_that_is_not_there_says_so():
    with pytest.raises(Unavailable, match="can not be found") as caught:
        addresses.check("no-such-host.invalid")
    assert "DNS" in caught.value.hint


def test_a_repository_that_can_not_be_reached_says_what_and_what_to_do(tmp_path):
    with pytest.raises(Unavailable, match="can not be fetched") as caught:
        mirrors.of_url(settings_in(tmp_path), "https://localhost:1/x.git", ref="refs/heads/main", sha=SHA)
    assert "login" in caught.value.hint


def test_a_login_reaches_neither_arguments_nor_messages(tmp_path):
    with pytest.raises(PipeError) as caught:
        mirrors.of_url(
            settings_in(tmp_path), "https://localhost:1/x.git", ref="refs/heads/main", sha=SHA, login=("bot", "hunter2")
        )
    assert "hunter2" not in str(caught.value)
    done = git.strict(
        "ls-remote", "--", "https://localhost:1/x", at=tmp_path, url="https://localhost:1/x", login=("b", "hunter2")
    )
    assert "hunter2" not in " ".join(done.argv)


def test_a_killed_git_leaves_no_lock_that_stops_the_next(tmp_path):
    settings = settings_in(tmp_path / "home")
    source = repository(tmp_path / "source")
    sha = git.own("rev-parse", "HEAD", at=source).text
    mirror = mirrors.of_here(settings, locate(source), sha).path
    (mirror / "packed-refs.lock").touch()
    (mirror / "refs/heads/main.lock").touch()
    (mirror / "pipe-state").unlink()
    assert mirrors.holds(mirrors.of_here(settings, locate(source), sha).path, sha)


def test_a_mirror_of_many_fetches_stays_in_few_packs(tmp_path):
    from tests.runners.stand import git as person

    settings = settings_in(tmp_path / "home")
    source = repository(tmp_path / "source")
    for n in range(30):
        person(source, "commit", "-q", "--allow-empty", "-m", f"c{n}")
        mirror = mirrors.of_here(settings, locate(source), person(source, "rev-parse", "HEAD")).path
    assert len(list((mirror / "objects/pack").glob("*.pack"))) <= 24
    assert person(mirror, "rev-list", "--count", "main") == "31"
    person(mirror, "fsck")
