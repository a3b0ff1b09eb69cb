"""Charts place what they are given where it belongs."""

import itertools
import re

import pytest

from app.components.charts import Line, line_chart, nice_ticks, spread, whisker, whole_ticks


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.013, 0.722), (-3.0, 250.0), (0.9, 1.0), (0.5, 0.5)])
def test_ticks_are_even_and_enclose_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    steps = {round(right - left, 9) for left, right in itertools.pairwise(ticks)}
    assert ticks[0] <= low and ticks[-1] >= high and len(steps) == 1 and 2 <= len(ticks) <= 8


@pytest.mark.parametrize("last", [2, 5, 8, 40, 365])
def test_whole_ticks_are_few_whole_and_within_the_axis(last: int) -> None:
    ticks = whole_ticks(last)
    assert 1 <= len(ticks) <= 6 and all(isinstance(tick, int) and 1 <= tick <= last for tick in ticks)


def test_names_never_overlap_nor_leave_the_chart() -> None:
    moved = spread([100.0, 101.0, 179.0], gap=28, lowest=166)
    assert max(moved) <= 166
    assert all(right - left >= 28 for left, right in itertools.pairwise(moved))


def test_a_higher_value_stands_higher_and_a_later_one_further_right() -> None:
    svg = line_chart("Loss", "", [Line("a", [(1, 0.8), (2, 0.4), (3, 0.2)])], x_label="x", x_max=5)
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    xs, ys = zip(*(map(float, pair.split(",")) for pair in points.group(1).split()), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)
    assert "a 0.200" in svg


def test_values_that_are_not_numbers_leave_a_gap_and_no_error() -> None:
    svg = line_chart("Loss", "", [Line("a", [(1, 0.5), (2, float("nan")), (3, 0.4)])], x_label="x", x_max=3)
    assert "nan" not in svg.split("aria-label")[0] and svg.count("polyline") == 1


def test_the_interval_lies_around_its_value() -> None:
    svg = whisker(0.9, 0.8, 0.95, start=0.5, label="AUROC")
    low, high = (float(re.search(rf'class="range" .*?{end}="([\d.]+)"', svg).group(1)) for end in ("x1", "x2"))
    value = float(re.search(r'<circle cx="([\d.]+)"', svg).group(1))
    assert low < value < high
