"""The masking tool as Python renders it: only where it was opened and there is an image, and nothing unescaped."""

import asyncio
from typing import Any

from app.components.findings import render_decisions, render_findings
from app.components.masking import render, render_done, render_tool

ITEM = {
    "number": 4, "file": 'a/"<b>.png', "label": "a", "reason": "seen", "width": 9, "height": 8, "same_size": 1,
    "url": "/view",
}  # fmt: skip


class _Backend:
    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    async def flagged(self, dataset_id: str) -> list[dict[str, Any]]:
        assert dataset_id == "d1"
        return self.items


def test_the_tool_is_there_only_where_it_was_opened_and_an_image_is_flagged() -> None:
    ready, opened = {"id": "d1", "status": "ready"}, {"masking": "d1"}

    def shown(items: list[dict[str, Any]], dataset: dict[str, Any] | None, choice: dict[str, Any]) -> str:
        return asyncio.run(render(_Backend(items), dataset, choice))  # type: ignore[arg-type]

    assert 'data-mask="d1"' in shown([ITEM], ready, opened)
    assert shown([], ready, opened) == shown([ITEM], ready, {}) == shown([ITEM], None, opened) == ""
    assert shown([ITEM], ready | {"status": "checking"}, opened) == ""


def test_names_of_files_are_escaped() -> None:
    html = render_tool({"id": "d1"}, [ITEM])
    assert "<b>.png" not in html and "&quot;file&quot;" in html


def test_the_finding_leads_to_the_tool_and_what_was_covered_has_no_undo() -> None:
    finding = {
        "id": "text", "kind": "text", "severity": "warning", "sentence": "Text.", "groups": [], "group_count": 0,
        "fixes": [],
    }  # fmt: skip
    html = render_findings("d1", {"findings": [finding]})
    assert "Text in the picture" in html and 'data-action="mask" data-id="d1"' in html
    mask = {"finding": "text", "fix": "mask", "images": 2, "when": "2026-11-25T10:00:00+00:00"}
    report = {
        "decisions": [mask, mask | {"finding": "text", "fix": "accept"}],
        "masks": [{"images": 2, "rectangles": [[0, 0, 1, 1]], "when": mask["when"]}],
    }
    html = render_decisions("d1", report)
    assert "Text in the picture: 2 images covered in 1 place" in html
    assert "Text in the picture: 2 images looked at" in html
    # The number is that of the whole list, and what was covered has none.
    assert html.count('data-action="undo"') == 1 and 'data-number="1"' in html


def test_leaving_the_tool_says_how_many_images_were_covered() -> None:
    assert "3 images covered" in render_done({"covered": "3"})
    assert render_done({"covered": "0"}) == render_done({}) == render_done({"covered": "<b>"}) == ""
