"""Logins for registries: given to a stage as secrets, or stored by `docker login` on this machine.

A helper program that keeps them is asked as the docker CLI asks it. Nothing is stored here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.settings import passed_on
from runners import process

USER, PASSWORD = "REGISTRY_USER", "REGISTRY_PASSWORD"  # names of secrets
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HELPER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to a registry; `token` is an identity token in place of a password."""

    user: str
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Return the header of HTTP's basic scheme, "" for an identity token."""
        if self.token:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def for_engine(self, host: str) -> dict[str, str]:
        """Return what the engine's API wants to know."""
        if self.token:
            return {"identitytoken": self.token, "serveraddress": host}
        return {"username": self.user, "password": self.password, "serveraddress": host}


def find(host: str, secrets: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Login | None:
    """Return the login for a registry: the stage's secrets, else what `docker login` stored, else None."""
    if USER in secrets and PASSWORD in secrets:
        return Login(secrets[USER], secrets[PASSWORD])
    env = passed_on() if environ is None else environ
    folder = Path(env["DOCKER_CONFIG"]) if env.get("DOCKER_CONFIG") else Path(env.get("HOME", "/")) / ".docker"
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    key = _HUB_KEY if host == "docker.io" else host
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper and (login := _ask(str(helper), key, env)):
        return login
    auths = config.get("auths") or {}
    return next((_stored(auths[name]) for name in (key, f"https://{key}", f"https://{key}/") if name in auths), None)


def _stored(entry: Mapping[str, Any]) -> Login | None:
    if entry.get("identitytoken"):
        return Login("", token=str(entry["identitytoken"]))
    try:
        user, colon, password = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Login(user, password) if colon else None


def _ask(helper: str, key: str, env: Mapping[str, str]) -> Login | None:
    if not _HELPER.fullmatch(helper):
        return None
    program = f"docker-credential-{helper}"
    done = process.run((program, "get"), env=env, input=key.encode(), timeout_seconds=_HELPER_SECONDS)
    if not done.ok:
        return None
    told = json.loads(done.out)
    if told["Username"] == "<token>":
        return Login("", token=str(told["Secret"]))
    return Login(str(told["Username"]), str(told["Secret"]))
