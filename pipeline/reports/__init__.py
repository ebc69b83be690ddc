"""Test reports: JUnit XML in all its dialects, read as a stream, with a written policy for whatever is odd.

Importing this is cheap and gives the values and the views. Reading (`pipeline.reports.read`, and
`pipeline.reports.workspace` for whole workspaces) loads the XML parsers. The policy: docs/reference/test-reports.md.
"""

from __future__ import annotations

from pipeline.reports.values import Case, Finding, Limits, Reading, Report, Sink, Status, Totals

__all__ = ["Case", "Finding", "Limits", "Reading", "Report", "Sink", "Status", "Totals"]
