"""Put what was seen of a repository into a commented definition."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from pipeline.scaffold.languages import Suite
from pipeline.scaffold.looking import Dockerfile, Seen
from pipeline.yamltree import scalar

_PLAIN = re.compile(r"[A-Za-z0-9_./~-][\w ./~@=+-]*")


def write(seen: Seen, images: Mapping[str, str]) -> str:
    """Return the text of a definition; `images` gives the image of each language."""
    lines = [
        "# yaml-language-server: $schema=./pipe.schema.json   (made by `pipe schema`)",
        "# Check it with `pipe lint`, draw it with `pipe graph`, run it with `pipe run`.",
        "version: 1",
        f"name: {seen.name}",
        "",
        "on:                       # which events start a run on a server; `pipe run` is always possible",
        "  push: {}",
        "  pull_request: {}",
        "  manual: {}",
        "",
        "defaults:",
        "  timeout: 15m            # a stage that takes longer is stopped",
        "  retry: {max: 1, on: [runner_lost, image_pull]}    # the machine's failures, never those of tests",
        "",
        "stages:",
    ]
    tests = _tests(seen, images)
    image = seen.dockerfile
    if image:
        lines += _image(image)
    lines += tests
    if image:
        lines += _release(seen, image)
    return "\n".join(lines) + "\n"


def _image(image: Dockerfile) -> list[str]:
    options = [f"dockerfile: {_q(image.path)}"] if image.path != "Dockerfile" else []
    options += [f"target: {_q(image.runtime_target)}"] if image.runtime_target else []
    return ["  image:                  # what will run", f"    build: {{{', '.join(options or ['context: .'])}}}", ""]


def _tests(seen: Seen, images: Mapping[str, str]) -> list[str]:
    if not seen.suites:
        return [
            "  check:                  # no test tool was found: put your own commands here",
            "    needs: []             # starts at once",
            f"    image: {_q(_reference(images, 'any', ''))}",
            "    run:",
            "      - ls",
            "",
        ]
    lines: list[str] = []
    names: set[str] = set()
    for suite in seen.suites:
        name = suite.name if suite.name not in names else f"{suite.name}-{suite.image}"[:63]
        names.add(name)
        lines += _suite(name, suite, seen, images)
    return lines


def _suite(name: str, suite: Suite, seen: Seen, images: Mapping[str, str]) -> list[str]:
    lines = [
        f"  {name}:".ljust(26) + f"# {suite.title}, from {_comment(suite.evidence)}",
        "    needs: []             # starts at once, beside the build",
        f"    image: {_q(_reference(images, suite.image, suite.version))}",
    ]
    if suite.folder:
        lines.append(f"    workdir: {_q(suite.folder)}")
    if seen.services:
        lines.append("    services:             # reached by their names; from the Compose file")
        for hint in seen.services:
            lines += [f"      {hint.name}:", f"        image: {_q(images.get(hint.kind) or _pinned(hint.image))}"]
            if hint.env:
                pairs = ", ".join(f"{_q(key)}: {_q(value)}" for key, value in hint.env.items() if _variable(key))
                lines += [f"        env: {{{pairs}}}"] if pairs else []
            lines.append(f"        ready: {{{hint.ready}, timeout: 60s}}")
    if suite.cache:
        paths, files = suite.cache
        prefix = f"{suite.folder}/" if suite.folder else ""
        keyed = _listed(prefix + file for file in files)
        lines.append(f"    cache: {{key: {{files: {keyed}}}, paths: {_listed(paths)}}}")
    lines.append("    run:")
    lines += [f"      - {_q(command)}" for command in suite.commands]
    if suite.junit:
        prefix = f"{suite.folder}/" if suite.folder else ""
        lines.append(f"    reports: {{junit: {_q(prefix + suite.junit)}}}")
    return [*lines, ""]


def _release(seen: Seen, image: Dockerfile) -> list[str]:
    names = [s.name for s in seen.suites] or ["check"]
    unique = list(dict.fromkeys(names)) if len(set(names)) == len(names) else _unique(seen)
    lines = [
        "  push:                   # only when all tests have passed",
        f"    needs: [{', '.join(['image', *unique])}]",
        "    push:",
        '      image: "${{ stages.image.image }}"',
        f"      to: registry.example/{seen.name}    # `pipe run` uses a local registry instead",
        '      tags: ["${{ git.short_sha }}"]',
        "",
    ]
    if not image.ports:
        lines += [
            "  # To put it live blue-green, say where it listens (EXPOSE in the Dockerfile), and add:",
            "  #   test:",
            "  #     needs: [push]",
            "  #     promote: {environment: test}",
            "  # app:",
            "  #   processes:",
            "  #     web: {image: push, port: 8000, health: {http: /healthz}}",
        ]
        return lines
    health = seen.health or "/"
    note = "" if seen.health else "    # guessed: a path that answers 200 when it can work"
    lines += [
        "  test:                   # blue-green: the new colour gets requests only when it is healthy",
        "    needs: [push]",
        "    promote: {environment: test}",
        "",
        "  release:",
        "    needs: [test]",
        "    promote: {environment: release, from: test}    # exactly the digest that is live in test",
        "",
        "app:                      # how it runs, in every environment",
        "  processes:",
        "    web:",
        "      image: push         # what the stage `push` pushed",
        f"      port: {image.ports[0]}",
        f"      health: {{http: {_q(health)}, interval: 1s, timeout: 60s}}{note}",
        "      stop_grace: 10s     # between SIGTERM and SIGKILL",
    ]
    return lines


def _unique(seen: Seen) -> list[str]:
    names: list[str] = []
    for suite in seen.suites:
        names.append(suite.name if suite.name not in names else f"{suite.name}-{suite.image}"[:63])
    return names


def _reference(images: Mapping[str, str], language: str, version: str) -> str:
    return images[language].replace("{version}", version)


def _pinned(image: str) -> str:
    """Return a reference with a version: without one, the next run may get another image."""
    last = image.rpartition("/")[2]
    if "@" in image or (":" in last and not last.endswith(":latest")):
        return image
    name = image.removesuffix(":latest")
    return f"{name}:{_VERSIONS.get(last.partition(':')[0], '1')}"


_VERSIONS = {"postgres": "16", "mysql": "8", "mariadb": "11", "redis": "7", "mongo": "7", "rabbitmq": "4", "nats": "2"}
_VERSIONS |= {"memcached": "1.6", "valkey": "8"}


def _variable(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name))


def _listed(values: Iterable[str]) -> str:
    return f"[{', '.join(_q(value) for value in values)}]"


def _q(text: str) -> str:
    """Write a text so that YAML reads the same text again."""
    plain = bool(_PLAIN.fullmatch(text)) and text == text.strip() and isinstance(scalar(text), str)
    if plain and not text.startswith("-"):
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in json.dumps(text, ensure_ascii=False))


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:80]
