"""Run the benches: all, or those named. Prints a table, writes JSON to bench/results/."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from bench.measure import Row

BENCHES = ("start", "stages", "rebuild", "volume", "kills")


def table(rows: list[Row]) -> str:
    """Return the rows as people read them."""
    lines = [f"  {'what':36} {'figure':>9} {'unit':9} {'bound':>7}  detail"]
    for row in rows:
        mark = {True: "✓", False: "✗", None: " "}[row.holds]
        bound = "" if row.bound is None else f"{'≥' if row.at_least else '≤'} {row.bound:g}"
        detail = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.detail.items())
        lines.append(f"{mark} {row.name:36} {row.value:9.2f} {row.unit:9} {bound:>7}  {detail}")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """Measure and tell; return 2 for a bench that does not exist."""
    unknown = set(names) - set(BENCHES)
    if unknown:
        print(f"no such bench: {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or BENCHES:
        print(f"· measuring {name} …", file=sys.stderr, flush=True)
        rows += import_module(f"bench.{name}").measure()
    print(table(rows))
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    facts = {"load": os.getloadavg(), "cpus": os.cpu_count(), "kernel": platform.release(), "at": time.time()}
    path = results / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps({**facts, "rows": [{**asdict(r), "holds": r.holds} for r in rows]}, indent=1))
    print(f"\nwritten to bench/results/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
