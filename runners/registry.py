"""A registry over the Distribution API: look at manifests and give them further tags. Layers are the engine's.

https everywhere but on this machine itself, where registries speak http. Nothing is read from the
environment but proxies, a redirect is an error, and a password is in no message. Protocol:
the OCI Distribution Specification, and the token scheme of the Docker Registry for `Bearer` challenges.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pipeline.errors import DefinitionError, Unavailable
from pipeline.settings import Settings, passed_on
from runners import addresses
from runners.logins import Login

if TYPE_CHECKING:
    from requests import Response

_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_HUB = "registry-1.docker.io"
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_TRIES = 4
_TIMEOUT_SECONDS = (10, 60)
_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Repository:
    """A name in a registry, without a tag."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def api(self) -> str:
        """Return the root of the registry's API."""
        host = _HUB if self.host == "docker.io" else self.host
        return f"{'http' if is_here(self.host) else 'https'}://{host}/v2"


def parse(text: str) -> Repository:
    """Read `host/name`; a first part without a dot, a port or the word localhost belongs to Docker's own registry.

    Raises:
        DefinitionError: it is not the name of a repository, for instance because it has a tag.
    """
    first, _, rest = text.partition("/")
    if not rest or not ("." in first or ":" in first or first == "localhost" or first.startswith("[")):
        first, rest = "docker.io", text if "/" in text else f"library/{text}"
    if not _HOST.fullmatch(first) or len(rest) > 200 or not _NAME.fullmatch(rest):
        raise DefinitionError(
            f"{text[:200]!r} is not the name of a repository in a registry",
            hint="It is like registry.example/team/shop, in lower case and without a tag.",
        )
    return Repository(first.lower(), rest)


def check_tag(tag: str) -> str:
    """Return a tag if registries accept it. Raises DefinitionError."""
    if not _TAG.fullmatch(tag):
        raise DefinitionError(
            f"{tag[:200]!r} can not be a tag",
            hint="Letters, digits, `_`, `.`, `-`, at most 128; `git.short_sha` fits.",
        )
    return tag


def is_here(host: str) -> bool:
    """Tell whether a registry is on this machine itself."""
    name = host.rpartition(":")[0] or host
    if name in ("localhost", "[::1]"):
        return True
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network("127.0.0.0/8")
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tag or digest stands for: the exact bytes, which are what a digest is the digest of."""

    type: str
    body: bytes

    @property
    def digest(self) -> str:
        """Return `sha256:…` of the bytes."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @property
    def config(self) -> str:
        """Return the digest of the image's configuration, "" for an index of several images."""
        return str((json.loads(self.body).get("config") or {}).get("digest") or "")


class Registry:
    """Speaks to the registry of one repository, with one login. Methods raise Unavailable(cause="registry")."""

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        login: Login | None = None,
        *,
        cancelled: threading.Event | None = None,
    ) -> None:
        """Prepare; nothing is sent yet."""
        from requests import Session

        self.repository = repository
        self._login = login
        self._cancelled = cancelled or threading.Event()
        self._session = Session()
        self._session.trust_env = False  # it would send what stands in ~/.netrc
        env = passed_on()
        bundle = (
            settings.ca_bundle or env.get("SSL_CERT_FILE") or (str(_SYSTEM_BUNDLE) if _SYSTEM_BUNDLE.exists() else "")
        )
        self._session.verify = bundle or True
        self._proxies = {name.lower(): value for name, value in env.items() if name.lower().endswith("_proxy")}
        self._authorization = ""

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def ping(self) -> None:
        """Raise unless the registry answers and takes the login."""
        self._ask("GET", "/")

    def head(self, reference: str) -> str | None:
        """Return the digest that a tag stands for, or None."""
        answer = self._ask("HEAD", f"/{self.repository.name}/manifests/{reference}", missing=True)
        return None if answer is None else str(answer.headers.get("Docker-Content-Digest") or "")

    def get(self, reference: str) -> Manifest | None:
        """Return the manifest that a tag or digest stands for, or None."""
        answer = self._ask("GET", f"/{self.repository.name}/manifests/{reference}", missing=True)
        if answer is None:
            return None
        manifest = Manifest(str(answer.headers.get("Content-Type") or "").split(";")[0], answer.content)
        if reference.startswith("sha256:") and manifest.digest != reference:
            raise self._error(f"gave another manifest than {reference} when asked for it", "Is something in between?")
        return manifest

    def put(self, tag: str, manifest: Manifest) -> None:
        """Give a manifest that is there a tag; the same again changes nothing."""
        path = f"/{self.repository.name}/manifests/{check_tag(tag)}"
        self._ask("PUT", path, data=manifest.body, headers={"Content-Type": manifest.type})

    @contextmanager
    def blob(self, digest: str) -> Iterator[Iterator[bytes]]:
        """Give a blob's bytes in chunks; whoever reads them checks the digest."""
        answer = self._ask("GET", f"/{self.repository.name}/blobs/{digest}", stream=True, moved=True)
        assert answer is not None
        try:
            if answer.status_code in (302, 303, 307, 308):  # to the store behind the registry, which gets no login
                answer = self._follow(str(answer.headers.get("Location") or ""))
            yield answer.iter_content(1 << 20)
        finally:
            answer.close()

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository holds a blob."""
        return self._ask("HEAD", f"/{self.repository.name}/blobs/{digest}", missing=True, moved=True) is not None

    def upload(self, digest: str, data: IO[bytes], size_bytes: int) -> None:
        """Store a blob in one piece; the registry refuses it if its digest is another one."""
        begun = self._ask("POST", f"/{self.repository.name}/blobs/uploads/")
        assert begun is not None
        place = urlsplit(urljoin(self.repository.api, str(begun.headers.get("Location") or "")))
        if place.netloc != urlsplit(self.repository.api).netloc:
            raise self._error("wants an upload sent to another host", "Is something in between?")
        query = f"{place.query}&" if place.query else ""
        url = f"{place.scheme}://{place.netloc}{place.path}?{query}digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        answer = self._send("PUT", url, {"data": data, "headers": headers})
        if answer.status_code != 201:
            raise self._error(f"refused the blob {digest}: {answer.status_code}{_said(answer)}", "Is its disk full?")

    def _follow(self, location: str) -> Response:
        if urlsplit(location).scheme != "https" and not is_here(self.repository.host):
            raise self._error("leads a download over an open connection", "Its store must speak https.")
        held, self._authorization = self._authorization, ""
        try:
            return self._send("GET", location, {"stream": True})
        finally:
            self._authorization = held

    def _ask(
        self, method: str, path: str, *, missing: bool = False, moved: bool = False, **more: Any
    ) -> Response | None:
        answer = self._persist(method, self.repository.api + path, more)
        if answer.status_code == 401:  # no token yet, or it has expired
            self._authorization = ""
            self._authorization = self._answer_challenge(answer, method)
            answer = self._persist(method, self.repository.api + path, more)
        if missing and answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise self._error(
                "refuses " + ("the login" if self._login else "to talk without a login"),
                f"Log in with `docker login {self.repository.host}`; may that account push to {self.repository.name}?",
            )
        if not 200 <= answer.status_code < (400 if moved else 300):
            raise self._error(
                f"answered {answer.status_code} to {method} {path}{_said(answer)}", "What does its log say?"
            )
        return answer

    def _persist(self, method: str, url: str, more: Mapping[str, Any]) -> Response:
        """Send a request, and again after a while when the registry is overloaded or breaks the connection."""
        from requests.exceptions import ConnectionError as NotConnected
        from requests.exceptions import RequestException, SSLError

        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._send(method, url, more)
            except SSLError as error:
                raise self._error(
                    f"can not be trusted: {_reason(error)}",
                    "Name the file of your certificate authority in PIPE_CA_BUNDLE, and in the engine's certs.d.",
                ) from error
            except (NotConnected, RequestException) as error:
                if attempt == _TRIES or self._cancelled.wait(_pause(attempt, "")):
                    raise self._error(
                        f"can not be reached: {_reason(error)}", "Is it running, and is its name and port right?"
                    ) from error
                continue
            busy = answer.status_code == 429 or answer.status_code >= 500
            if (
                not busy
                or attempt == _TRIES
                or self._cancelled.wait(_pause(attempt, answer.headers.get("Retry-After", "")))
            ):
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _send(self, method: str, url: str, more: Mapping[str, Any]) -> Response:
        from requests.utils import should_bypass_proxies

        headers = {"Accept": ", ".join(_TYPES), **more.get("headers", {})}
        if self._authorization:
            headers["Authorization"] = self._authorization
        here = is_here(self.repository.host)
        proxies = {} if here or should_bypass_proxies(url, self._proxies.get("no_proxy")) else {
            "http": self._proxies.get("http_proxy", ""), "https": self._proxies.get("https_proxy", ""),
        }  # fmt: skip
        if not here and not any(proxies.values()):
            self._check_address(urlsplit(url).hostname or "")
        answer = self._session.request(
            method, url, headers=headers, data=more.get("data"), params=more.get("params"), auth=more.get("auth"),
            proxies=proxies, timeout=_TIMEOUT_SECONDS, allow_redirects=False, stream=True,
        )  # fmt: skip
        if more.get("stream"):
            return answer
        answer._content = answer.raw.read(_MANIFEST_BYTES + 1, decode_content=True)
        if len(answer.content) > _MANIFEST_BYTES:
            raise self._error(f"answered with more than {_MANIFEST_BYTES} bytes", "Is it a registry?")
        return answer

    def _check_address(self, host: str) -> None:
        try:
            addresses.check(host)
        except Unavailable as error:
            raise self._error(f"can not be reached: {error.message}", error.hint) from error

    def _answer_challenge(self, refused: Response, method: str) -> str:
        """Return the Authorization header that the registry asks for, or "" when there is nothing to answer with."""
        scheme, _, rest = str(refused.headers.get("WWW-Authenticate") or "").partition(" ")
        if scheme.lower() == "basic":
            return self._login.basic if self._login and self._login.basic else ""
        if scheme.lower() != "bearer":
            return ""
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = urlsplit(asked.get("realm", ""))
        if realm.scheme != "https" and not is_here(self.repository.host):
            raise self._error("wants its login sent over an open connection", "Its token service must speak https.")
        actions = "pull" if method in ("GET", "HEAD") and not self._login else "pull,push"
        params = {"service": asked.get("service", ""), "scope": f"repository:{self.repository.name}:{actions}"}
        answer = self._token(asked["realm"], params)
        if answer.status_code != 200:
            return ""
        told = answer.json()
        return f"Bearer {told.get('token') or told.get('access_token') or ''}"

    def _token(self, realm: str, params: dict[str, str]) -> Response:
        if self._login and self._login.token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._login.token,
                "client_id": "pipewright",
                **params,
            }
            return self._persist("POST", realm, {"data": form})
        headers = {"Authorization": self._login.basic} if self._login else {}
        return self._persist("GET", realm, {"params": params, "headers": headers})

    def _error(self, what: str, hint: str) -> Unavailable:
        return Unavailable(f"the registry {self.repository.host} {what}", hint=hint, cause="registry")


def _pause(attempt: int, asked: str) -> float:
    return min(10.0, float(asked)) if asked.isdigit() else 0.2 * 2**attempt


def _reason(error: BaseException) -> str:
    """Return the innermost words of an error of requests, which wraps others in its own text."""
    text = str(error)
    match = re.search(r"(?:Errno -?\d+\] |: )([^:\[\]()]{4,120})[')\]]*$", text)
    return match[1].strip(" ')\"") if match else text[-160:]


def _said(answer: Response) -> str:
    try:
        errors = json.loads(answer.content).get("errors") or []
        return ": " + str(errors[0].get("message") or errors[0].get("code")) if errors else ""
    except (ValueError, AttributeError, IndexError, TypeError):
        return ""
