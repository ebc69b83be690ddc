"""Large output: how fast logs reach the store, whether a line is lost, and what memory `pipe run` takes at its peak."""

from __future__ import annotations

from bench.measure import Row, demand, run
from bench.project import IMAGE, PIPE, Project

LINES = 10_000_000  # of 100 bytes each: 1 GB
CASES = 150_000  # a JUnit report of about 52 MB

LOUD = f"version: 1\nname: loud\nstages:\n  loud: {{image: '{IMAGE}', run: sh loud.sh}}\n"
LOUD_SCRIPT = f"seq -f '%08.0f {'x' * 90}' 1 {LINES}\n"
REPORT = f"""version: 1
name: report
stages:
  report: {{image: '{IMAGE}', run: sh report.sh, reports: {{junit: report.xml}}}}
"""
REPORT_SCRIPT = f"""exec > report.xml
echo '<testsuites><testsuite name="large" tests="{CASES}">'
seq -f '<testcase classname="a.long.enough.package.of.TestClass" name="test_that_it_happens_as_it_should_%.0f" \
time="0.012"><system-out>{"output of this test, " * 10}</system-out></testcase>' {CASES}
echo '</testsuite></testsuites>'
"""


def measure() -> list[Row]:
    """Return MB/s, lost lines, and MB at the peak."""
    with Project(LOUD, {"loud.sh": LOUD_SCRIPT}) as project:
        sink = ["sh", "-c", f"exec '{PIPE}' run --plain > /dev/null"]  # the figure is of the store, not of a screen
        loud = demand(run(sink, cwd=project.folder, env=project.env), "pipe run")
        again = project.stage_seconds("loud")
        count = ["sh", "-c", f"'{PIPE}' logs 1 loud | grep -c '^[0-9]'"]
        kept = int(demand(run(count, cwd=project.folder, env=project.env), "pipe logs").out)
    with Project(REPORT, {"report.sh": REPORT_SCRIPT}) as project:
        report = demand(project.pipe("run"), "pipe run")
    return [
        Row("logs, container to store", LINES * 100 / 1e6 / again, "MB/s", 30, True, {"seconds": again}),
        Row("logs, lines lost", float(LINES - kept), "lines", 0),
        Row("peak memory, 1 GB of output", loud.peak_mb, "MB", 120, detail={"seconds": loud.seconds}),
        Row("peak memory, JUnit of 52 MB", report.peak_mb, "MB", 120, detail={"seconds": report.seconds}),
    ]
