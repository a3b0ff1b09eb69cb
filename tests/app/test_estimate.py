"""Time and memory of a training in words."""

from __future__ import annotations

from typing import Any

import pytest

from app.components.estimate import render_estimate, render_unknown, span


def found(**changes: Any) -> dict[str, Any]:
    presets = [
        {"preset": name, "seconds_low": low, "seconds_high": high, "epochs": 5}
        for name, low, high in (("quick", 61, 182), ("balanced", 200, 560), ("thorough", 3000, 9000))
    ]
    return {"presets": presets, "memory_mb": 1300.0, "available_mb": 20000.0, "fits": True, "device": "cpu",
            "steps_measured": 6} | changes  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (61, 182, "1 to 3 min"), (8, 31, "8 to 31 s"), (42, 130, "42 s to 2 min"), (118, 121, "about 2 min"),
        (3000, 9000, "50 min to 2 h 30 min"), (0.2, 0.3, "about 1 s"),
    ],
)  # fmt: skip
def test_two_times_read_as_a_range(low: float, high: float, text: str) -> None:
    assert span(low, high) == text


def test_each_effort_has_its_time_and_memory_stands_below() -> None:
    html = render_estimate(found())

    assert "<dt>Quick</dt><dd>1 to 3 min</dd>" in html and "<dt>Thorough</dt><dd>50 min to 2 h 30 min</dd>" in html
    assert "It needs about 1.3 GB of memory; 19.5 GB are free." in html
    assert "may not fit" not in html


def test_too_little_memory_is_a_warning_with_what_to_do() -> None:
    html = render_estimate(found(fits=False, available_mb=800.0, device="cuda"))

    assert "It may not fit." in html and "800 MB are free. Choose fewer images at a time" in html
    assert "graphics memory" in html


def test_memory_that_is_not_known_is_left_out() -> None:
    assert "memory" not in render_estimate(found(memory_mb=None))


def test_a_reason_is_text() -> None:
    assert "<script>" not in render_unknown("<script>alert(1)</script>")
