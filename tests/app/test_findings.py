"""Findings as the Data page shows them: images, one button a fix, decisions that can be undone."""

from typing import Any

from app.components.findings import render_decisions, render_findings


def finding(**changes: Any) -> dict[str, Any]:
    image = {"file": "a/1.png", "label": "a", "split": "test", "url": "/thumbnail/7"}
    return {
        "id": "leaks", "kind": "leaks", "severity": "serious", "sentence": "It leaks.", "group_count": 20,
        "groups": [{"id": str(n), "note": f"group {n}", "images": [image], "image_count": 4} for n in range(12)],
        "fixes": [
            {"fix": "move", "label": "Move to one side", "sentence": "Moves 3 images.", "images": 3},
            {"fix": "drop", "label": "Leave images out", "sentence": "Leaves out 3.", "images": 3},
        ],
    } | changes  # fmt: skip


def test_a_finding_shows_its_images_and_one_button_for_each_fix() -> None:
    html = render_findings("d1", {"findings": [finding()]})
    assert "Patients on two sides" in html and "It leaks." in html and "Serious" in html
    assert html.count('data-action="fix"') == 2
    assert 'data-id="d1" data-finding="leaks" data-fix="move"' in html
    assert html.count('class="lightbox"') == 12
    assert "Show more (18)" in html and "and 8 more" in html
    assert "and 3 more images" in html
    assert 'src="/thumbnail/7"' in html and 'alt="a/1.png, class a"' in html


def test_a_finding_that_only_the_data_can_mend_has_no_button() -> None:
    html = render_findings("d1", {"findings": [finding(id="drift-size-test", kind="drift", fixes=[])]})
    assert "Sides that differ" in html and "data-action" not in html
    assert render_findings("d1", {"findings": [finding(kind="unreadable")]}) == render_findings("d1", {}) == ""


def test_a_decision_says_what_was_done_and_can_be_undone_by_its_number() -> None:
    made = {"finding": "near-copies-across", "fix": "drop", "images": 1, "when": "2026-11-25T10:00:00+00:00"}
    html = render_decisions("d1", {"decisions": [made | {"finding": "leaks", "fix": "move", "images": 1200}, made]})
    assert "Patients on two sides: 1,200 images moved to one side" in html
    assert "Nearly equal images: 1 image left out" in html
    assert 'data-action="undo" data-id="d1" data-number="1"' in html
    assert render_decisions("d1", {"decisions": []}) == ""
