"""Warn of habits that are bad but not wrong: in a definition, and in the Dockerfiles that it builds.

What is wrong is told by `loading`. Nothing is run here: for hadolint (https://github.com/hadolint/hadolint)
the argv and a reader of its JSON are given, and whoever may start programs runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.mistakes import Mistake
from pipeline.positions import Path

if TYPE_CHECKING:
    from pipeline.loading import Loaded

RULES = {
    "image-latest": "an image without a version, or with `latest`, is another one tomorrow",
    "no-timeout": "a stage that hangs holds a place for an hour",
    "secret-as-text": "what looks like a secret stands in the definition as text",
    "status-without-needs": "`status` looks at needs, and there are none",
    "docker-in-run": "stages have no Docker socket",
    "report-not-read": "a test report is written, and nothing reads it",
    "push-latest": "an image that is only `latest` can not be told from the next one",
    "errors-hidden": "the end of a command is thrown away",
}
_TOKENS = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|glpat-[\w-]{18,}|xox[abprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|"
    r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}|sk_live_\w{16,}|://[^/\s:@$]+:[^/\s:@$]{6,}@"
)
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|PRIVATE_?KEY|CREDENTIAL", re.IGNORECASE)
_DOCKER = re.compile(r"^\s*(?:sudo\s+)?docker\s+(build|buildx|push|run|compose|login)\b", re.MULTILINE)
_REPORT = re.compile(r"--junit-?xml[= ](\S+)|--reporters?[= ]jest-junit|--log-junit[= ](\S+)")


def warnings(loaded: Loaded) -> list[Mistake]:
    """Return a warning for each bad habit of a definition, sorted by position, each with its rule."""
    found = [*_images(loaded), *_timeouts(loaded), *_secrets(loaded), *_stages(loaded)]
    return sorted(set(found))


def _warn(loaded: Loaded, rule: str, path: Path, message: str, hint: str, *, key: bool = False) -> Mistake:
    return loaded.positions.mistake(path, message, hint, key=key, rule=rule)


def _images(loaded: Loaded) -> Iterator[Mistake]:
    for path, image in _image_paths(loaded):
        if "${{" in image or "@sha256:" in image:
            continue
        name, _, tag = image.rpartition("/")[2].partition(":")
        if tag in ("", "latest"):
            hint = f"name a version, like {name}:1.2, or a digest"
            what = "no version" if not tag else "the version `latest`"
            yield _warn(loaded, "image-latest", path, f"`{image}` has {what}", hint)


def _image_paths(loaded: Loaded) -> Iterator[tuple[Path, str]]:
    for name, stage in loaded.definition.stages.items():
        if stage.image:
            yield ("stages", name, "image"), stage.image
        for service, one in stage.services.items():
            yield ("stages", name, "services", service, "image"), one.image
        if stage.promote and stage.promote.verify:
            yield ("stages", name, "promote", "verify", "image"), stage.promote.verify.image
    for name, accessory in (loaded.definition.app.accessories if loaded.definition.app else {}).items():
        yield ("app", "accessories", name, "image"), accessory.image


def _timeouts(loaded: Loaded) -> Iterator[Mistake]:
    definition = loaded.definition
    if "timeout" in definition.defaults.model_fields_set:
        return
    without = [name for name, stage in definition.stages.items() if stage.timeout is None and stage.kind != "promote"]
    if without:
        shown = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
        message = f"no `timeout` for {shown}: an hour is taken"
        yield _warn(loaded, "no-timeout", ("stages", without[0]), message, "write defaults: {timeout: 15m}", key=True)


def _secrets(loaded: Loaded) -> Iterator[Mistake]:
    for path, text in _texts(loaded.positions.tree, ()):
        token = _TOKENS.search(text)
        named = len(path) > 1 and path[-2] in ("env", "args") and _SECRET_NAME.search(str(path[-1]))
        if not token and not (named and _random(text) and not str(path[-1]).endswith("_FILE")):
            continue
        place = loaded.positions.inside(path, dict(loaded.files), token[0] if token else text)
        message = f"this looks like a secret (`{path[-1]}`)"
        hint = "name it under `secrets:` and keep its value out of the repository"
        yield Mistake(place.file, place.line, place.column, message, hint, place.length, "secret-as-text")


def _random(text: str) -> bool:
    """Tell whether a value is long and mixed enough to be more than a word for tests."""
    kinds = sum(bool(re.search(pattern, text)) for pattern in ("[a-z]", "[A-Z]", "[0-9]"))
    return len(text) >= 12 and kinds >= 2 and not re.search(r"[\s${]", text)


def _texts(node: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, str):
        if len(node) >= 10:
            yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, (*path, index))


def _stages(loaded: Loaded) -> Iterator[Mistake]:
    for name, stage in loaded.definition.stages.items():
        path: Path = ("stages", name)
        text = "\n".join(stage.run or ())
        if not stage.needs and any(item.status for item in stage.when):
            message = f"`{name}` waits for a `status`, but needs no stage"
            yield _warn(loaded, "status-without-needs", (*path, "when"), message, "add `needs`", key=True)
        if docker := _DOCKER.search(text):
            place = loaded.positions.inside((*path, "run"), dict(loaded.files), docker[0].strip())
            hint = "use a stage with `build` or `push`, or `services`"
            message = "stages have no Docker"
            yield Mistake(place.file, place.line, place.column, message, hint, place.length, "docker-in-run")
        if _REPORT.search(text) and not stage.reports:
            message = f"`{name}` writes a test report that nothing reads"
            hint = 'add reports: {junit: "…/*.xml"}'
            yield _warn(loaded, "report-not-read", (*path, "run"), message, hint, key=True)
        if re.search(r"\|\|\s*true\s*$", text, re.MULTILINE) and stage.reports:
            hint = "leave `|| true` out, or write allow_failure: true"
            yield _warn(loaded, "errors-hidden", (*path, "run"), "`|| true` hides failing tests", hint, key=True)
        if stage.push and stage.push.tags and set(stage.push.tags) == {"latest"}:
            hint = 'add a tag that stays, like "${{ git.short_sha }}"'
            yield _warn(loaded, "push-latest", (*path, "push", "tags"), "the only tag is `latest`", hint)


# --- Dockerfiles ----------------------------------------------------------------------------------------------------


def dockerfiles(loaded: Loaded) -> list[str]:
    """Return the Dockerfiles that a definition builds, relative to the repository; those with `${{ }}` are left out."""
    found: dict[str, None] = {}
    for stage in loaded.definition.stages.values():
        if stage.build:
            context = stage.build.context.strip("/").removeprefix("./")
            path = stage.build.dockerfile if context in ("", ".") else f"{context}/{stage.build.dockerfile}"
            if "${{" not in path:
                found[path.removeprefix("./")] = None
    return list(found)


def hadolint_argv(dockerfile: str) -> list[str]:
    """Return the command that judges a Dockerfile; it prints JSON and, with findings, exits 1."""
    return ["hadolint", "--format", "json", "--", dockerfile]


def hadolint_warnings(output: str, dockerfile: str) -> list[Mistake]:
    """Read hadolint's JSON into warnings; what is not its JSON is one warning that says so."""
    import json  # hadolint alone needs it

    try:
        items = json.loads(output)
        return sorted(_hadolint(item, dockerfile) for item in items)
    except (ValueError, TypeError, KeyError, AttributeError):
        return [Mistake(dockerfile, 1, 1, "hadolint's answer can not be read", "run it by hand", rule="hadolint")]


def _hadolint(item: dict[str, Any], dockerfile: str) -> Mistake:
    code = str(item["code"])
    hint = f"{code}, {item.get('level', 'warning')}"
    return Mistake(dockerfile, int(item["line"]), int(item.get("column") or 1), str(item["message"]), hint, 1, code)
