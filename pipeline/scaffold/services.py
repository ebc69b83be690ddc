"""What a Compose file hints at: databases and the like that tests may need, as services of a stage."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import yamltree
from pipeline.errors import DefinitionError
from pipeline.scaffold.sources import text_of

FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")

# kind -> (names in image references, environment for tests, how it says that it is ready)
KNOWN: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "postgres": (
        ("postgres", "postgresql", "postgis", "timescaledb", "pgvector"),
        {"POSTGRES_PASSWORD": "test"},
        "run: pg_isready -U postgres -h 127.0.0.1",
    ),
    "mysql": (("mysql",), {"MYSQL_ROOT_PASSWORD": "test", "MYSQL_DATABASE": "test"}, "port: 3306"),
    "mariadb": (("mariadb",), {"MARIADB_ROOT_PASSWORD": "test", "MARIADB_DATABASE": "test"}, "port: 3306"),
    "redis": (("redis", "valkey"), {}, "port: 6379"),
    "mongo": (("mongo", "mongodb"), {}, "port: 27017"),
    "rabbitmq": (("rabbitmq",), {}, "port: 5672"),
    "memcached": (("memcached",), {}, "port: 11211"),
    "elasticsearch": (("elasticsearch", "opensearch"), {"discovery.type": "single-node"}, "port: 9200"),
    "nats": (("nats",), {}, "port: 4222"),
    "minio": (("minio",), {}, "port: 9000"),
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass
class Hint:
    """One service: its name in the Compose file, what it is, its image, its variables, how it gets ready."""

    name: str
    kind: str
    image: str
    file: str
    ready: str
    env: dict[str, str] = field(default_factory=dict)


def hints(folder: Path) -> list[Hint]:
    """Return the services that the repository's Compose file starts beside the application."""
    for file in FILES:
        text = text_of(folder / file)
        if text:
            return _read(text, file)
    return []


def _read(text: str, file: str) -> list[Hint]:
    try:
        tree = yamltree.parse(text, file)
    except DefinitionError:
        return []  # Compose allows what we do not; a hint is not worth an error
    services = tree.get("services") if isinstance(tree, dict) else None
    found = []
    for name, service in services.items() if isinstance(services, dict) else ():
        image = service.get("image") if isinstance(service, dict) else None
        kind = _kind(image) if isinstance(image, str) else ""
        if kind:
            wanted, ready = KNOWN[kind][1], KNOWN[kind][2]
            env = {**wanted, **_env(service.get("environment"), wanted)}
            found.append(Hint(_host(str(name)), kind, _resolved(str(image)), file, ready, env))
    return found


def _kind(image: str) -> str:
    last = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return next((kind for kind, (words, _, _) in KNOWN.items() if last in words), "")


def _host(name: str) -> str:
    host = re.sub(r"[^a-z0-9_-]", "-", name.lower())
    return host[:63] if re.match(r"[a-z]", host) else f"s-{host}"[:63]


def _resolved(image: str) -> str:
    """Fill in defaults such as ${VERSION:-16}; what has none is left out."""
    return re.sub(r"\$\{\w+:?-?([^}]*)\}", r"\1", image).rstrip(":")


def _env(value: Any, wanted: dict[str, str]) -> dict[str, str]:
    """Return the plain variables of a Compose service: databases and users, but never what is a secret there."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [tuple(item.split("=", 1)) for item in value if isinstance(item, str) and "=" in item]  # type: ignore[misc]
    return {
        str(key): str(text)
        for key, text in pairs
        if _VARIABLE.fullmatch(str(key)) and isinstance(text, str) and "$" not in text and key not in wanted
        and not re.search(r"PASSWORD|SECRET|TOKEN|KEY|_FILE$", str(key))
        and len(text) < 200
    }  # fmt: skip
