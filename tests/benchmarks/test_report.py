"""The form of a benchmark's answer: rows, table, and where they go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.timing import in_turn


def test_a_comparison_takes_the_ratio_of_each_round() -> None:
    row = report.compare("work", [10.0, 40.0, 30.0], [5.0, 10.0, 10.0], peer_name="peer", unit="s")

    assert (row["ours"], row["peer"], row["ratio"], row["runs"]) == (30.0, 10.0, 3.0, 3)
    assert row["spread"] == pytest.approx(0.5)  # quartiles of 2, 3 and 4 are 2.5 and 3.5


def test_one_round_has_no_spread() -> None:
    row = report.compare("work", [10.0], [5.0], peer_name="peer", unit="s")

    assert (row["ratio"], row["spread"]) == (2.0, None)


def test_the_table_says_what_was_not_reached() -> None:
    rows = [
        report.row("fast", 84.123, 1234.5, peer_name="peer", unit="images/s", runs=3, spread=0.012),
        report.row("never", None, 9.5, peer_name="peer", unit="s", runs=1),
    ]

    lines = report.table(rows).splitlines()

    assert lines[2] == "| fast | 84.1 images/s | 1,234 images/s (peer) | 0.07 ± 0.01 | 3 |"
    assert lines[3] == "| never | not reached | 9.5 s (peer) | – | 1 |"
    assert "torch" in lines[-1]


def test_a_quick_run_replaces_no_result(tmp_path: Path) -> None:
    parser = report.parser_of("text", "less")
    file = tmp_path / "new" / "rows.json"

    assert report.destination(parser.parse_args(["--quick"]), "work") is None
    assert report.destination(parser.parse_args([]), "work") == report.RESULTS / "work.json"
    assert report.destination(parser.parse_args(["--quick", "--json", str(file)]), "work") == file


def test_the_file_holds_machine_and_rows_and_what_stands_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "new" / "rows.json"

    report.write(file, [report.row("a", 1.0, 2.0, peer_name="b", unit="s", runs=1)], curves=[1])

    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["machine"]["cores"] >= 1
    assert (written["rows"][0]["ratio"], written["curves"]) == (0.5, [1])


def test_variants_take_turns_and_warm_up_does_not_count() -> None:
    asked: list[str] = []

    def step(name: str) -> int:
        asked.append(name)
        return len(asked)

    answers = in_turn({"a": lambda: step("a"), "b": lambda: step("b")}, rounds=2, warm_up=1)

    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert answers == {"a": [4, 5], "b": [3, 6]}
