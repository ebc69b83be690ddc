"""Draw planned stages and what they wait for: a tree for the terminal, Mermaid, DOT, plain data.

Text only; colours are the command line's. Combinations of a matrix are one node, unless told apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.plan import PlannedStage


@dataclass(frozen=True, slots=True)
class Node:
    """One stage, or all combinations of one: what it needs, and why it is left out."""

    name: str
    kind: str
    count: int
    needs: tuple[tuple[str, bool], ...]  # name, optional
    skip_reason: str
    line: int

    @property
    def label(self) -> str:
        """Return its name, with the number of its combinations."""
        return f"{self.name} ×{self.count}" if self.count > 1 else self.name


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree: `lead` draws the branches, `note` says what else it waits for."""

    lead: str
    node: Node
    note: str


def nodes(stages: Sequence[PlannedStage], *, expanded: bool = False) -> list[Node]:
    """Return the nodes of the graph, in the order of the definition."""
    if expanded:
        return [
            Node(s.name, s.kind, 1, tuple((n["stage"], n["optional"]) for n in s.needs), s.skip_reason, s.line)
            for s in stages
        ]
    base_of = {stage.name: stage.base for stage in stages}
    groups: dict[str, list[PlannedStage]] = {}
    for stage in stages:
        groups.setdefault(stage.base, []).append(stage)
    made = []
    for base, group in groups.items():
        needs = {base_of[n["stage"]]: bool(n["optional"]) for n in group[0].needs if n["stage"] in base_of}
        skipped = group[0].skip_reason if all(stage.skip_reason for stage in group) else ""
        made.append(Node(base, group[0].kind, len(group), tuple(needs.items()), skipped, group[0].line))
    return made


def rows(stages: Sequence[PlannedStage], *, expanded: bool = False) -> list[Row]:
    """Return the tree line by line: each stage stands under the need that comes last, and names the others."""
    found = nodes(stages, expanded=expanded)
    depth = _depths(found)
    children: dict[str, list[Node]] = {}
    also: dict[str, str] = {}
    for node in found:
        known = [name for name, _ in node.needs if name in depth]
        parent = max(known, key=lambda name: depth[name], default="")
        children.setdefault(parent, []).append(node)
        others = [name for name in known if name != parent]
        also[node.name] = f"also after {_and(others)}" if others else ""
    made: list[Row] = []

    def walk(parent: str, lead: str) -> None:
        below = children.get(parent, [])
        for index, node in enumerate(below):
            last = index == len(below) - 1
            mark = "" if not parent else "└─ " if last else "├─ "
            made.append(Row(lead + mark, node, also[node.name]))
            walk(node.name, lead + ("" if not parent else "   " if last else "│  "))

    walk("", "")
    return made


def _depths(found: Sequence[Node]) -> dict[str, int]:
    """Return how many stages come before each, at least; stages may stand in any order in the file."""
    needs = {node.name: [name for name, _ in node.needs] for node in found}
    depth: dict[str, int] = {}
    todo = list(needs)
    while todo:
        name = todo[-1]
        waiting = [other for other in needs[name] if other in needs and other not in depth]
        if waiting:
            todo += waiting
        else:
            todo.pop()
            depth[name] = 1 + max((depth[other] for other in needs[name] if other in depth), default=0)
    return depth


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def tree(stages: Sequence[PlannedStage], *, expanded: bool = False) -> str:
    """Return the tree as text: branches, name, kind, what else it waits for, why it is left out."""
    made = rows(stages, expanded=expanded)
    width = max((len(row.lead) + len(row.node.label) for row in made), default=0)
    lines = []
    for row in made:
        name = f"{row.lead}{row.node.label}".ljust(width)
        notes = "; ".join(note for note in (row.note, _skipped(row.node)) if note)
        lines.append(f"{name}  {row.node.kind:<7}  {notes}".rstrip())
    return "\n".join(lines)


def _skipped(node: Node) -> str:
    return f"skipped: {node.skip_reason}" if node.skip_reason else ""


def mermaid(stages: Sequence[PlannedStage], *, expanded: bool = False) -> str:
    """Return a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html); optional needs are dotted."""
    found = nodes(stages, expanded=expanded)
    ids = {node.name: f"s{index}" for index, node in enumerate(found)}
    lines = ["flowchart LR"]
    for node in found:
        text = f"{node.label}<br>{node.kind}".replace('"', "#quot;")
        lines.append(f'  {ids[node.name]}["{text}"]')
    for node in found:
        for name, optional in node.needs:
            if name in ids:
                lines.append(f"  {ids[name]} {'-.->' if optional else '-->'} {ids[node.name]}")
    if left_out := [ids[node.name] for node in found if node.skip_reason]:
        lines += ["  classDef skipped stroke-dasharray: 4 4,color:#888", f"  class {','.join(left_out)} skipped"]
    return "\n".join(lines)


def dot(stages: Sequence[PlannedStage], *, expanded: bool = False) -> str:
    """Return the graph in DOT (https://graphviz.org/doc/info/lang.html); optional needs are dashed."""
    found = nodes(stages, expanded=expanded)
    known = {node.name for node in found}
    lines = ["digraph pipeline {", "  rankdir=LR;", '  node [shape=box, fontname="monospace"];']
    for node in found:
        style = ", style=dashed" if node.skip_reason else ""
        label = json.dumps(f"{node.label}\n{node.kind}", ensure_ascii=False)
        lines.append(f"  {json.dumps(node.name)} [label={label}{style}];")
    for node in found:
        for name, optional in node.needs:
            if name in known:
                style = " [style=dashed]" if optional else ""
                lines.append(f"  {json.dumps(name)} -> {json.dumps(node.name)}{style};")
    return "\n".join([*lines, "}"])


def as_data(stages: Sequence[PlannedStage]) -> list[dict[str, Any]]:
    """Return every planned stage as plain data, for `--json`."""
    return [
        {
            "name": stage.name,
            "base": stage.base,
            "kind": stage.kind,
            "matrix": dict(stage.matrix),
            "needs": [dict(need) for need in stage.needs],
            "line": stage.line,
            "skip_reason": stage.skip_reason,
        }
        for stage in stages
    ]
