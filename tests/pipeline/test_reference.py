"""The reference that people read, the schema that editors read, and the models are the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import jsonschema, lint
from pipeline.definition import Definition, Part
from pipeline.errors import DefinitionError
from pipeline.expressions import GIT, RUN, TYPED_FIELDS
from pipeline.loading import load_environments, loads
from pipeline.vocabulary import as_written
from tests.pipeline.definitions import ENVIRONMENTS, FULL

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/pipeline.md").read_text(encoding="utf-8")
MODELS = {m.__name__: m for root in (Definition, Part) for m in jsonschema.models(root)}


def sections() -> dict[str, list[tuple[str, str, str]]]:
    """Return the keys, their defaults and their texts by the model that a heading of the page names."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for model, body in re.findall(r"<!-- model: (\w+) -->\n(.*?)(?=\n#|\Z)", PAGE, re.DOTALL):
        found[model] = re.findall(r"^\| `(\w+)` \| `?(.*?)`? \| (.*?) \|$", body, re.MULTILINE)
    return found


def test_the_reference_has_a_section_for_every_model() -> None:
    assert set(sections()) == set(MODELS)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_reference_says_of_every_key_what_the_model_says(name: str) -> None:
    said = jsonschema.comments(MODELS[name])
    assert all(said.values()), f"every key of {name} has a `#:` comment"
    left_out = jsonschema.defaults(MODELS[name])
    wanted = [(key, left_out[key], text.replace("|", "\\|")) for key, text in said.items()]
    assert [(key, default.strip(), text) for key, default, text in sections()[name]] == wanted


def test_the_reference_names_every_rule_of_lint_and_every_name_of_an_expression() -> None:
    assert all(f"`{rule}`" in PAGE for rule in lint.RULES)
    assert all(f"`git.{name}`" in PAGE for name in GIT)
    assert all(f"`run.{name}`" in PAGE for name in RUN)
    assert all(f"`{field}`" in PAGE for field in TYPED_FIELDS)


def test_the_examples_of_the_reference_are_right() -> None:
    examples = re.findall(r"```yaml\n(version: 1\n.*?)```", PAGE, re.DOTALL)
    assert examples
    for example in examples:
        assert lint.warnings(loads(example)) == []


def test_the_shipped_schemas_are_those_of_the_models() -> None:
    for name, made in (("pipe", jsonschema.schema()), ("environments", jsonschema.environments_schema())):
        shipped = json.loads((ROOT / f"pipeline/{name}.schema.json").read_text(encoding="utf-8"))
        assert shipped == made, f"write pipeline/{name}.schema.json again"
        assert made["$schema"].endswith("2020-12/schema")
        assert made["$id"]


def test_every_key_of_the_schema_has_a_description() -> None:
    made = jsonschema.schema()
    for part in (made, *made["$defs"].values()):
        assert all(value.get("description") for value in part.get("properties", {}).values()), part.get("title")


def valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Judge a value by the part of JSON Schema that our schemas use."""
    if "$ref" in schema:
        return valid(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(valid(value, one, root) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kinds = schema.get("type", [])
    kind = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}.get(
        type(value), "number"
    )
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and kind not in kinds and not (kind == "number" and "integer" in kinds and value == int(value)):
        return False
    if kind == "string":
        return bool(re.search(schema.get("pattern", ""), value))
    if kind == "array":
        return all(valid(item, schema.get("items", {}), root) for item in value)
    if kind == "object":
        return all(
            valid(item, _of(key, schema), root) for key, item in value.items() if _of(key, schema) is not None
        ) and (all(_of(key, schema) is not None for key in value) and set(schema.get("required", ())) <= set(value))
    return True


def _of(key: str, schema: dict[str, Any]) -> Any:
    if key in schema.get("properties", {}):
        return schema["properties"][key]
    for pattern, inner in schema.get("patternProperties", {}).items():
        if re.search(pattern, key):
            return inner
    more = schema.get(
        "additionalProperties", {} if "properties" not in schema and "patternProperties" not in schema else None
    )
    return None if more is False else more


def plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    return float(as_written(node)) if hasattr(node, "raw") else node  # type: ignore[arg-type]


def test_what_is_right_for_us_is_right_for_an_editor(tmp_path: Path) -> None:
    from pipeline.yamltree import parse

    for text, schema in ((FULL, jsonschema.schema()), (ENVIRONMENTS, jsonschema.environments_schema())):
        assert valid(plain(parse(text, "x")), schema, schema)
    for sample in ROOT.glob("samples/*/pipe.yml"):
        assert valid(plain(parse(sample.read_bytes(), "x")), jsonschema.schema(), jsonschema.schema())
    (tmp_path / "environments.yml").write_text(ENVIRONMENTS)
    load_environments(tmp_path / "environments.yml")


@pytest.mark.parametrize(
    ("old", "new"), [("needs: []", "need: []"), ("timeout: 15m", "timeout: 15"), ("run: [pip", "rnu: [pip")]
)
def test_what_is_wrong_for_us_is_wrong_for_an_editor(old: str, new: str) -> None:
    from pipeline.yamltree import parse

    text = FULL.replace(old, new, 1)
    with pytest.raises(DefinitionError):
        loads(text)
    assert not valid(plain(parse(text, "x")), jsonschema.schema(), jsonschema.schema())
