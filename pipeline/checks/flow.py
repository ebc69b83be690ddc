"""Check the graph: needs that exist and have no circle, promotions that can be reached, images that are pushed."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from pipeline.checks.finder import Finder
from pipeline.definition import Promote
from pipeline.mistakes import closest

MAX_STAGES = 1000


def check(finder: Finder) -> None:
    """Add every mistake of the graph."""
    definition = finder.definition
    if not definition.stages and not finder.broken and not definition.definition:
        finder.wrong(("stages",), "there are no stages", "add one under `stages:`; `pipe init` shows how", key=True)
    if len(definition.stages) > MAX_STAGES:
        finder.wrong(("stages",), f"more than {MAX_STAGES} stages", key=True)
    _needs(finder)
    _circles(finder)
    for name, stage in finder.stages():
        if stage.promote:
            _promotion(finder, name, stage.promote)
    _application(finder)


def _needs(finder: Finder) -> None:
    names = [*finder.definition.stages, *finder.broken]
    for name, stage in finder.stages():
        seen: set[str] = set()
        for index, need in enumerate(stage.needs or ()):
            path = ("stages", name, "needs", index)
            if need.stage == name:
                finder.wrong(path, f"the stage `{name}` needs itself", "leave it out")
            elif not finder.known(need.stage):
                meant = closest(need.stage, names)
                hint = f"did you mean `{meant}`?" if meant else "stages are named under `stages:`"
                finder.wrong(path, f"there is no stage `{need.stage}`", hint)
            elif need.stage in seen:
                finder.wrong(path, f"`{need.stage}` is needed twice", "once is enough")
            seen.add(need.stage)


def _circles(finder: Finder) -> None:
    graph = {name: [n.stage for n in stage.needs or () if n.stage != name] for name, stage in finder.stages()}
    for _ in range(20):  # break one circle after the other, so that all are told
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            circle = list(reversed(error.args[1]))  # each needs the next
            first = min(circle[:-1], key=list(graph).index)
            start = circle[:-1].index(first)
            order = [*circle[:-1][start:], *circle[:-1][:start], first]
            index = [n.stage for n in finder.definition.stages[first].needs or ()].index(order[1])
            way = " -> ".join(order if len(order) < 12 else [*order[:6], "…", *order[-5:]])
            finder.wrong(("stages", first, "needs", index), f"stages need each other in a circle: {way}")
            graph[first].remove(order[1])


def _promotion(finder: Finder, name: str, promote: Promote) -> None:
    path = ("stages", name, "promote")
    if finder.definition.app is None and not finder.positions.value(("app",)):
        finder.wrong(path, "a stage with `promote` needs `app` in the definition", "`app` says how it runs", key=True)
    if promote.from_ is None:
        return
    before = {
        stage.promote.environment
        for other in finder.upstream(name)
        if (stage := finder.definition.stages.get(other)) and stage.promote
    }
    if promote.from_ == promote.environment:
        finder.wrong((*path, "from"), f"`{name}` takes its image from the environment that it promotes to")
    elif promote.from_ not in before and not (finder.upstream(name) & finder.broken):
        meant = closest(promote.from_, before)
        hint = f"did you mean `{meant}`?" if meant else "need the stage that promotes to it"
        message = f"no stage that `{name}` needs promotes to `{promote.from_}`"
        finder.wrong((*path, "from"), message, hint)


def _application(finder: Finder) -> None:
    app = finder.definition.app
    if app is None:
        return
    stages = finder.definition.stages
    pushes = [name for name, stage in stages.items() if stage.push]
    used: set[str] = set()
    for name, process in app.processes.items():
        path = ("app", "processes", name, "image")
        if process.image in pushes:
            used.add(process.image)
            if stages[process.image].matrix:
                finder.wrong(path, f"the stage `{process.image}` has a matrix, so there are several images")
        elif process.image not in finder.broken and "@sha256:" not in process.image:
            meant = closest(process.image, pushes)
            hint = f"did you mean `{meant}`?" if meant else "name a stage with `push`, or an image by its digest"
            finder.wrong(path, f"no stage `{process.image}` pushes an image for the process `{name}`", hint, key=True)
    if app.before and app.before.process not in app.processes:
        meant = closest(app.before.process, app.processes)
        hint = f"did you mean `{meant}`?" if meant else f"there are: {' '.join(app.processes)}"
        finder.wrong(("app", "before", "process"), f"there is no process `{app.before.process}`", hint)
    _pushed_before(finder, used)
    for name, accessory in app.accessories.items():
        for index, volume in enumerate(accessory.volume):
            source, _, target = volume.partition(":")
            if not source or "/" in source or source.startswith(".") or not target.startswith("/"):
                place = ("app", "accessories", name, "volume", index)
                finder.wrong(place, f"`{volume[:80]}` is not `name:/path`", "folders of the host are never mounted")


def _pushed_before(finder: Finder, pushes: set[str]) -> None:
    for name, stage in finder.stages():
        if stage.promote and not finder.upstream(name) & finder.broken:
            for missing in sorted(pushes - finder.upstream(name)):
                message = f"`{name}` promotes the image of `{missing}`, but does not need it"
                finder.wrong(("stages", name, "needs"), message, f"write needs: [{missing}]", key=True)
