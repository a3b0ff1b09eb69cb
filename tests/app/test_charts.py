"""Charts place what they are given where it belongs."""

import itertools
import math
import re

import pytest

from app.components.charts import HEIGHT, WIDTH, Line, line_chart, nice_ticks, spread, whisker, whole_ticks


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.013, 0.722), (-3.0, 250.0), (0.9, 1.0), (0.5, 0.5)])
def test_ticks_are_even_and_enclose_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    steps = {round(right - left, 9) for left, right in itertools.pairwise(ticks)}
    assert ticks[0] <= low and ticks[-1] >= high and len(steps) == 1 and 2 <= len(ticks) <= 8


@pytest.mark.parametrize("low", [float("-inf"), -1.7e308, -3.0, 0.0, 5e-324, 1e17, 1e308, float("nan"), 10**400])
@pytest.mark.parametrize("high", [float("inf"), 1.7e308, 1e17 + 16, 1e-12, 0.0, float("nan")])
def test_ticks_exist_for_any_two_numbers(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8 and all(map(math.isfinite, ticks)) and ticks == sorted(ticks)


@pytest.mark.parametrize("last", [2, 5, 8, 40, 365, 10**9, int(1e30), 10**400])
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


@pytest.mark.parametrize("last", [-3, 0, 1])
def test_an_axis_that_ends_at_once_has_at_most_one_tick(last: int) -> None:
    assert whole_ticks(last) == [1][: max(last, 0)]


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_values_that_are_not_numbers_leave_a_gap_and_no_error(nothing: float | None) -> None:
    svg = line_chart("Loss", "", [Line("a", [(1, 0.5), (2, 0.4), (3, nothing)])], x_label="x", x_max=3)
    assert svg.count("polyline") == 1 and "a 0.400" in svg and ">0.400</tspan>" in svg
    assert not re.search(r"\b(nan|inf|None)\b", svg)
    assert "no values yet" in line_chart("Loss", "", [Line("a", [(1, nothing)])], x_label="x", x_max=3)


@pytest.mark.parametrize("x_max", [0, 10**9, int(1e30), 10**400, 1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("y", [0.0, 1e17, 1.7e308])
def test_a_chart_of_any_length_and_height_is_drawn_within_its_frame(x_max: int, y: float) -> None:
    svg = line_chart("Loss", "", [Line("a", [(1, -y), (2, y)])], x_label="x", x_max=x_max)
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    for x, height in (map(float, pair.split(",")) for pair in points.group(1).split()):
        assert 0 <= x <= WIDTH and 0 <= height <= HEIGHT


def test_the_interval_lies_around_its_value() -> None:
    svg = whisker(0.9, 0.8, 0.95, start=0.5, label="AUROC")
    low, high = (float(re.search(rf'class="range" .*?{end}="([\d.]+)"', svg).group(1)) for end in ("x1", "x2"))
    value = float(re.search(r'<circle cx="([\d.]+)"', svg).group(1))
    assert low < value < high
