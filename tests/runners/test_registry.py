"""Registries as they are: well, unwilling, overloaded, behind a token, behind TLS, or not there at all."""

from __future__ import annotations

import base64
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import DefinitionError, Unavailable
from runners import logins, registry
from runners.logins import Login
from runners.registry import Registry, Repository
from tests.runners.stand import settings_in

BODY = b'{"schemaVersion":2,"config":{"digest":"sha256:c0"}}'
TYPE = "application/vnd.oci.image.manifest.v1+json"
Answer = tuple[int, dict[str, str], bytes]


class Played(http.server.ThreadingHTTPServer):
    """A server that answers as a function says, and remembers what it was asked."""

    def __init__(self, play: Callable[[Played, str, str, dict[str, str]], Answer]) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        played = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.rfile.read(int(headers.get("content-length", 0)))
                played.asked.append((self.command, self.path, headers))
                code, more, body = play(played, self.command, self.path, headers)
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do

            def log_message(self, *_: object) -> None:
                return

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def playing(play: Callable[[Played, str, str, dict[str, str]], Answer], tls: ssl.SSLContext | None = None):
    server = Played(play)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def speaking(server_host: str, tmp_path: Path, login: Login | None = None, **env: str) -> Iterator[Registry]:
    speaker = Registry(Repository(server_host, "team/shop"), settings_in(tmp_path, **env), login)
    try:
        yield speaker
    finally:
        speaker.close()


def well(server: Played, method: str, path: str, headers: dict[str, str]) -> Answer:
    if path.endswith("/missing"):
        return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
    return (201 if method == "PUT" else 200), {"Content-Type": TYPE, "Docker-Content-Digest": "sha256:d"}, BODY


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("registry.example/shop", "registry.example", "shop"),
        ("Registry.Example:5000/team/shop", "registry.example:5000", "team/shop"),
        ("localhost/shop", "localhost", "shop"),
        ("team/shop", "docker.io", "team/shop"),
        ("shop", "docker.io", "library/shop"),
        ("[::1]:5000/a/b", "[::1]:5000", "a/b"),
    ],
)
def test_a_repository_is_read_as_docker_reads_it(text, host, name):
    assert registry.parse(text) == Repository(host, name)


@pytest.mark.parametrize(
    "text",
    ["", "shop:1", "Shop", "a.b/Shop", "a.b/", "a.b//c", "a.b/../c", "a.b/c@sha256:0", "-a.b/c", "a b.c/d", "a.b:x/c"],
)
def test_what_is_no_repository_is_refused(text):
    with pytest.raises(DefinitionError, match="not the name of a repository"):
        registry.parse(text)


@pytest.mark.parametrize("tag", ["", "-x", "a/b", "a b", "x" * 129, "ä", "a\n"])
def test_what_is_no_tag_is_refused(tag):
    with pytest.raises(DefinitionError, match="can not be a tag"):
        registry.check_tag(tag)


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.8.8.8", True), ("[::1]:5000", True),
     ("registry.example:5000", False), ("10.0.0.1", False), ("127.0.0.1.evil.example", False),
     ("[::ffff:127.0.0.1]:5000", False)],
)  # fmt: skip
def test_only_this_machine_speaks_http(host, here):
    assert registry.is_here(host) == here
    assert Repository(host, "x").api.startswith("http://" if here else "https://")


def test_manifests_are_looked_at_and_tagged(tmp_path):
    with playing(well) as server, speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker:
        assert speaker.head("v1") == "sha256:d"
        manifest = speaker.get("v1")
        assert (manifest.body, manifest.type, manifest.config) == (BODY, TYPE, "sha256:c0")
        assert (speaker.head("missing"), speaker.get("missing")) == (None, None)
        speaker.put("v2", manifest)
    method, path, headers = server.asked[-1]
    assert (method, path, headers["content-type"]) == ("PUT", "/v2/team/shop/manifests/v2", TYPE)


def test_a_manifest_that_is_not_the_digest_asked_for_is_refused(tmp_path):
    with (
        playing(well) as server,
        speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker,
        pytest.raises(Unavailable, match="another manifest"),
    ):
        speaker.get("sha256:" + "0" * 64)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_overloaded_registry_is_asked_again(tmp_path, code):
    def busy(server: Played, method: str, path: str, headers: dict[str, str]) -> Answer:
        return (code, {"Retry-After": "0"}, b"") if len(server.asked) < 3 else well(server, method, path, headers)

    with playing(busy) as server, speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker:
        assert speaker.head("v1") == "sha256:d"
    assert len(server.asked) == 3


def test_one_that_stays_overloaded_is_told_of(tmp_path):
    def busy(*_: object) -> Answer:
        return 503, {"Retry-After": "0"}, b'{"errors":[{"message":"out of order"}]}'

    with (
        playing(busy) as server,
        speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker,
        pytest.raises(Unavailable, match=r"answered 503 .*out of order") as caught,
    ):
        speaker.get("v1")
    assert (caught.value.cause, len(server.asked)) == ("registry", 4)


def test_waiting_for_it_ends_with_a_cancel(tmp_path):
    def busy(server: Played, *_: object) -> Answer:
        speaker._cancelled.set()
        return 503, {"Retry-After": "10"}, b""

    with (
        playing(busy) as server,
        speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker,
        pytest.raises(Unavailable),
    ):
        speaker.get("v1")
    assert len(server.asked) == 1


def test_a_token_is_fetched_with_the_login_used_and_renewed(tmp_path):
    def guarded(server: Played, method: str, path: str, headers: dict[str, str]) -> Answer:
        if path.startswith("/token"):
            good = headers.get("authorization") == "Basic " + base64.b64encode(b"bot:hunter2").decode()
            count = sum(asked[1].startswith("/token") for asked in server.asked)
            return (200, {}, json.dumps({"token": f"t{count}"}).encode()) if good else (401, {}, b"")
        expired = headers.get("authorization") == "Bearer t1" and path.endswith("/later")
        if not headers.get("authorization", "").startswith("Bearer t") or expired:
            challenge = f'Bearer realm="http://127.0.0.1:{server.port}/token",service="reg"'
            return 401, {"WWW-Authenticate": challenge}, b""
        return well(server, method, path, headers)

    with playing(guarded) as server:
        with speaking(f"127.0.0.1:{server.port}", tmp_path, Login("bot", "hunter2")) as speaker:
            assert speaker.head("v1") == "sha256:d"
            assert speaker.head("later") == "sha256:d"
        path = next(asked[1] for asked in server.asked if asked[1].startswith("/token"))
        assert "service=reg" in path
        assert "scope=repository%3Ateam%2Fshop%3Apull%2Cpush" in path
        with (
            speaking(f"127.0.0.1:{server.port}", tmp_path, Login("bot", "hunter3")) as speaker,
            pytest.raises(Unavailable, match="refuses the login") as caught,
        ):
            speaker.head("v1")
    assert "docker login" in caught.value.hint
    assert "hunter3" not in str(caught.value)


def test_without_a_login_it_says_that_one_is_needed(tmp_path):
    def closed(*_: object) -> Answer:
        return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""

    with (
        playing(closed) as server,
        speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker,
        pytest.raises(Unavailable, match="refuses to talk without a login"),
    ):
        speaker.ping()


def test_a_redirect_is_not_followed(tmp_path):
    def leading(*_: object) -> Answer:
        return 302, {"Location": "http://169.254.169.254/latest/meta-data"}, b""

    with (
        playing(leading) as server,
        speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker,
        pytest.raises(Unavailable, match="answered 302"),
    ):
        speaker.get("v1")


def test_an_address_of_the_link_is_never_asked(tmp_path):
    with (
        speaking("169.254.169.254", tmp_path) as speaker,
        pytest.raises(Unavailable, match="where no repository or registry may be") as caught,
    ):
        speaker.get("v1")
    assert caught.value.cause == "registry"


def test_one_that_is_not_there_says_where_and_what_to_do(tmp_path):
    with playing(well) as server:
        port = server.port
    with (
        speaking(f"127.0.0.1:{port}", tmp_path) as speaker,
        pytest.raises(Unavailable, match=f"127.0.0.1:{port} can not be reached: Connection refused") as caught,
    ):
        speaker.get("v1")
    assert (caught.value.cause, "running" in caught.value.hint) == ("registry", True)


def test_an_endless_answer_is_cut(tmp_path):
    def endless(*_: object) -> Answer:
        return 200, {}, b"x" * (5 << 20)

    with (
        playing(endless) as server,
        speaking(f"127.0.0.1:{server.port}", tmp_path) as speaker,
        pytest.raises(Unavailable, match="more than"),
    ):
        speaker.get("v1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    """Make a certificate of our own for this machine's address, with its key in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::ffff:127.0.0.1")]
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("authority") / "both.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(form[0]) + key.private_bytes(*form))
    return path


def test_a_certificate_of_ones_own_authority_is_trusted_when_it_is_named(authority, tmp_path):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority)
    with playing(well, tls) as server:
        host = f"[::ffff:127.0.0.1]:{server.port}"
        with speaking(host, tmp_path) as speaker, pytest.raises(Unavailable, match="can not be trusted") as caught:
            speaker.head("v1")
        assert "PIPE_CA_BUNDLE" in caught.value.hint
        with speaking(host, tmp_path, PIPE_CA_BUNDLE=str(authority)) as speaker:
            assert speaker.head("v1") == "sha256:d"


def test_a_login_is_found_where_docker_keeps_it(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "docker-credential-vault").write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\":\\"vault\\",\\"Secret\\":\\"for-$host\\"}"\n'
    )
    (folder / "docker-credential-vault").chmod(0o755)
    auth = base64.b64encode(b"ada:pass:word").decode()
    stored = {
        "auths": {
            "a.example": {"auth": auth},
            "https://b.example": {"auth": auth},
            "https://index.docker.io/v1/": {"identitytoken": "t0ken"},
            "broken.example": {"auth": "%%%"},
        },
        "credHelpers": {"c.example": "vault", "d.example": "../../evil"},
    }
    (folder / "config.json").write_text(json.dumps(stored))
    env = {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}

    def find(host: str, **secrets: str) -> Login | None:
        return logins.find(host, secrets, env)

    assert find("a.example") == find("b.example") == Login("ada", "pass:word")
    assert find("docker.io") == Login("", token="t0ken")
    assert find("c.example") == Login("vault", "for-c.example")
    assert find("broken.example") is find("d.example") is find("none.example") is None
    assert find("a.example", REGISTRY_USER="u", REGISTRY_PASSWORD="p") == Login("u", "p")
    assert logins.find("a.example", {}, {"HOME": str(tmp_path)}) is None


def test_a_login_does_not_show_its_password():
    assert "hunter2" not in repr(Login("bot", "hunter2")) + repr(Login("", token="hunter2"))
