"""The graph is drawn whole: every stage once, every need, and why a stage is left out."""

from __future__ import annotations

import json

from pipeline import graph
from tests.pipeline.definitions import FULL, planned, small

RUN = "    image: x:1\n    run: y\n"


def test_the_tree_shows_every_stage_below_the_need_that_comes_last() -> None:
    assert graph.tree(planned(FULL).stages).splitlines() == [
        "runtime_image        build",
        "test_image           build",
        "└─ unit ×3           run",
        "   ├─ tell           run",
        "   └─ push           push     also after runtime_image and lint",
        "      └─ test        promote",
        "         └─ release  promote",
        "lint                 run",
    ]


def test_the_tree_says_why_a_stage_is_left_out() -> None:
    assert "skipped: no item of its `when` holds" in graph.tree(planned(FULL, branch="x").stages)


def test_combinations_are_told_apart_when_asked() -> None:
    told = graph.tree(planned(FULL).stages, expanded=True)
    assert "unit [shard=2]" in told
    assert "also after runtime_image, lint, unit [shard=2] and unit [shard=3]" in told


def test_stages_may_stand_in_any_order_in_the_file() -> None:
    text = small(f"  c:\n    needs: [b]\n{RUN}  b:\n    needs: [a]\n{RUN}  a:\n    needs: []\n{RUN}")
    assert graph.tree(planned(text).stages).splitlines() == ["a        run", "└─ b     run", "   └─ c  run"]


def test_a_chain_of_hundreds_of_stages_is_drawn() -> None:
    text = small("".join(f"  s{n}:\n{RUN}" for n in range(900)))
    assert len(graph.tree(planned(text).stages).splitlines()) == 900


def test_mermaid_and_dot_hold_every_stage_and_every_need() -> None:
    stages = planned(FULL, branch="x").stages
    mermaid, dot = graph.mermaid(stages), graph.dot(stages)
    assert mermaid.count("-->") == dot.count(" -> ") == 7
    assert '  s3["unit ×3<br>run"]' in mermaid.splitlines()
    assert "  class s5 skipped" in mermaid.splitlines()
    assert '  "push" [label="push\\npush", style=dashed];' in dot.splitlines()


def test_an_optional_need_is_drawn_apart() -> None:
    stages = planned(small(f"  a:\n{RUN}  b:\n{RUN}")).stages
    assert "s0 -.-> s1" in graph.mermaid(stages)
    assert '"a" -> "b" [style=dashed];' in graph.dot(stages)


def test_the_graph_is_plain_data_too() -> None:
    data = json.loads(json.dumps(graph.as_data(planned(FULL).stages)))
    assert [stage["name"] for stage in data][3] == "unit [shard=1]"
    assert data[3]["needs"] == [{"stage": "test_image", "optional": False}]
