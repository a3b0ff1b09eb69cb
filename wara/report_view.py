"""The data report on the command line: counts, split, findings with the command that fixes each, decisions."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from wara.console import RunView


def print_report(view: RunView, report: dict[str, Any]) -> None:
    """Print how many images and patients of which classes there are, and what was passed over."""
    patients = "" if report["patients"] is None else f", {report['patients']:,} patients"
    view.console.print(f"{report['images']:,} images{patients}, {len(report['classes'])} classes ({report['layout']})")
    for entry in report["classes"]:
        view.console.print(f"  {escape(entry['name'])}: {entry['count']:,}")
    passed = report["passed_over"]
    if passed["count"]:
        view.console.print(f"{passed['count']:,} {'file' if passed['count'] == 1 else 'files'} passed over:")
        for reason, count in passed["reasons"].items():
            view.console.print(f"  {count:,}: {escape(reason)}")


def print_splits(view: RunView, report: dict[str, Any]) -> None:
    """Print the sides of the split as a table, and what is to be known of them."""
    table = Table("Side", "Images", "Patients", *(escape(c["name"]) for c in report["classes"]), box=None)
    for side, row in report["splits"].items():
        patients = "unknown" if row["patients"] is None else f"{row['patients']:,}"
        counts = (f"{row['classes'].get(c['name'], 0):,}" for c in report["classes"])
        table.add_row(side, f"{row['images']:,}", patients, *counts)
    view.console.print(f"Split ({report['split_source']}):")
    view.console.print(table)
    for note in report["notes"]:
        view.console.print(f"Note: {escape(note)}")


def print_findings(view: RunView, report: dict[str, Any]) -> None:
    """Print each finding with examples and with the command that fixes it, then what was decided."""
    for finding in report["findings"]:
        view.console.print(f"{finding['severity'].capitalize()} ({finding['id']}): {escape(finding['sentence'])}")
        for group in finding["groups"][:3]:
            files = ", ".join(image["file"] for image in group["images"][:3])
            view.console.print(f"  {escape(group['note'])}: {escape(files)}")
        if finding["group_count"] > 3:
            view.console.print(f"  and {finding['group_count'] - 3:,} more")
        for fix in finding["fixes"]:
            view.console.print(f"  --fix {finding['id']}={fix['fix']}: {escape(fix['sentence'])}")
    for decision in report["decisions"]:
        number = f"{decision['images']:,} image{'' if decision['images'] == 1 else 's'}"
        view.console.print(f"Decided: {escape(decision['finding'])}={decision['fix']}, {number}, {decision['when']}")
