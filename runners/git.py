"""Run git with every option injection closed. What a mirror or a workspace is stands in `mirrors` and `snapshots`.

Two manners: `strict` for mirrors and clones, where no configuration but ours (`gitconfig` beside this
file) is read; and `own`, for looking at the user's own working tree, where the user's configuration
counts, for it says what is ignored. Hooks, helpers that watch files and remote helpers such as `ext::`
are off in both. URLs and refs pass an allow-list first and stand behind `--` always; a password never
stands in a URL or an argument.
"""

from __future__ import annotations

import base64
import re
import threading
from pathlib import Path

from pipeline.errors import DefinitionError, Unavailable
from pipeline.settings import passed_on
from runners import addresses, process

ZERO = "0" * 40  # the commit id of a tree that has no commit
_CONFIG = Path(__file__).with_name("gitconfig")
_FLAGS = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "safe.directory=*",
)
_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_USER = r"(?:[A-Za-z0-9][A-Za-z0-9._-]*@)"
_REST = r"[A-Za-z0-9~%!+,;=@._/-]*"
_URLS = (
    re.compile(rf"https://{_HOST}(?::(?P<port>\d{{1,5}}))?/(?!/){_REST}"),
    re.compile(rf"ssh://{_USER}?{_HOST}(?::(?P<port>\d{{1,5}}))?/(?!/|-){_REST}"),
    re.compile(rf"{_USER}{_HOST}:(?!-|:|/-)(?P<port>){_REST}"),
)
_REFUSED_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|\.$|/$|/-")
_USERINFO = re.compile(r"(//)[^/@\s]*@")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def check_url(url: str) -> str:
    """Return the URL of a repository elsewhere if it is https or ssh and plain in every part.

    Raises:
        DefinitionError: anything else, also a user or password inside an https URL.
    """
    if len(url) > 2048 or not any(pattern.fullmatch(url) for pattern in _URLS) or "/../" in url:
        raise DefinitionError(
            f"the repository {printable(url)} is not a plain https or ssh URL",
            hint="Write https://host/path.git or git@host:path.git, without a password or spaces in it.",
        )
    return url


def check_ref(ref: str) -> str:
    """Return a full ref name such as `refs/heads/main` if git would accept it (git-check-ref-format).

    Raises:
        DefinitionError: it would not, or it could be taken for an option.
    """
    if not ref.startswith("refs/") or len(ref) > 512 or _REFUSED_IN_REF.search(ref) or not ref.isprintable():
        raise DefinitionError(f"{printable(ref)} is not the full name of a git ref", hint="It is like refs/heads/main.")
    return ref


def check_sha(sha: str) -> str:
    """Return a full commit id. Raises DefinitionError for anything else."""
    if not _SHA.fullmatch(sha):
        raise DefinitionError(f"{printable(sha)} is not a full commit id")
    return sha


def printable(text: str) -> str:
    """Return foreign text as it may stand in a message: quoted, cut, without control characters or a password."""
    return repr(_USERINFO.sub(r"\1", text[:200]))


def strict(
    *args: str,
    at: Path,
    url: str = "",
    login: tuple[str, str] | None = None,
    input: bytes = b"",
    timeout_seconds: float = 120,
    cancelled: threading.Event | None = None,
) -> process.Completed:
    """Run git in `at` under our configuration alone; `url` is the one remote place that it may speak to.

    `login` goes as a header of the request, by the environment, and only to that host.
    """
    env = passed_on() | {
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(_CONFIG),
        "GIT_ALLOW_PROTOCOL": "file" if not url else "https" if url.startswith("https:") else "ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oProxyCommand=none -oConnectTimeout=20",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ATTR_NOSYSTEM": "1",
    }
    env |= _settings_for(url, login) if url else {}
    argv = ("git", *_FLAGS, *args)
    return process.run(
        argv,
        env=env,
        cwd=at,
        input=input,
        timeout_seconds=timeout_seconds,
        cancelled=cancelled,
        dies_with_us=bool(url),
    )


def own(*args: str, at: Path, timeout_seconds: float = 120) -> process.Completed:
    """Run git in the user's own working tree, under the user's configuration, changing nothing there."""
    env = passed_on() | {"LC_ALL": "C.UTF-8", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    return process.run(("git", *_FLAGS, *args), env=env, cwd=at, timeout_seconds=timeout_seconds)


def expect(done: process.Completed, what: str, *, hint: str = "") -> process.Completed:
    """Return `done` if git succeeded; else raise Unavailable that says what was wanted and what git said."""
    if done.ok:
        return done
    said = "it took too long" if done.stopped == "timeout" else done.stopped or done.complaint
    raise Unavailable(f"{what}: " + _USERINFO.sub(r"\1", said), hint=hint)


def _settings_for(url: str, login: tuple[str, str] | None) -> dict[str, str]:
    """Return configuration by environment: the address that was checked, and the login."""
    match = next(found for pattern in _URLS if (found := pattern.fullmatch(url)))
    host = match["host"]
    addresses.check(host.strip("[]"))
    if login is None or not url.startswith("https:"):
        return {}
    token = base64.b64encode(":".join(login).encode()).decode()
    origin = url[: url.index("/", len("https://")) + 1]
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{origin}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {token}",
    }
