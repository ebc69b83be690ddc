"""What must hold between the parts of a definition, beyond what each model can see of itself.

One module per subject: `flow` (needs, promotions, the application), `references` (`${{ }}`, CEL and what they
name), `values` (matrix, schedules, names and paths), `environments` (the operator's file). Each takes a
`Finder` and adds mistakes to it. Bad habits that are not wrong are `pipeline.lint`.
"""

from __future__ import annotations

from pipeline.checks import flow, values
from pipeline.checks.finder import Enough, Finder
from pipeline.definition import Definition
from pipeline.mistakes import Mistake
from pipeline.positions import Positions


def definition_mistakes(
    definition: Definition, positions: Positions, texts: dict[str, str], broken: frozenset[str] = frozenset()
) -> list[Mistake]:
    """Return what is wrong between the parts of a definition, all of it unless there is very much."""
    finder = Finder(definition, positions, texts, broken)
    try:
        flow.check(finder)
        values.check(finder)
        if _has_expressions(definition, texts):
            from pipeline.checks import references  # most files do without

            references.check(finder)
    except Enough:
        pass
    return finder.found


def _has_expressions(definition: Definition, texts: dict[str, str]) -> bool:
    if any("${{" in text for text in texts.values()):
        return True
    return any(item.if_ is not None for stage in definition.stages.values() for item in stage.when)
