"""The form on where labels come from: what it asks of the server, and what it shows."""

from __future__ import annotations

from typing import Any

from app.components.mapping import names_of, order_of, render_form, render_head, render_preview, wanted

FOUND: dict[str, Any] = {
    "mapping": {"source": "table", "table": "<b>.xlsx", "sheet": "two", "columns": {"file": "Scan"}},
    "guessed": ["Column 'Scan' is taken as the file: 3 of 3 rows match a file or folder of the data."],
    "tables": ["<b>.xlsx"],
    "table": {
        "name": "<b>.xlsx", "sheet": "two", "sheets": ["one", "two"], "rows": 3,
        "columns": [
            {"name": "Scan", "distinct": 3, "matches": 3, "samples": ["a", "b", "<i>"]},
            {"name": "MRN", "distinct": 3, "matches": 0, "samples": []},
        ],
    },
    "images": 900, "counted": 300, "used": 2, "label_count": 1, "patients": None, "rows_without_file": 4,
    "labels": [{"name": "<ill>", "count": 2}],
    "unused": {"count": 1, "reasons": [{"reason": "it has no label", "count": 1, "example": "<c>.png"}]},
    "rows": [
        {"file": "a.png", "label": "<ill>", "patient": "0a", "split": "val", "groups": {"eye": "L"}, "reason": None},
        {"file": "<c>.png", "label": None, "patient": None, "split": None, "groups": {}, "reason": "it has no label"},
    ],
    "warnings": [],
    "problem": None,
}  # fmt: skip
WAITING = {"id": "d1", "name": "<ward>", "status": "mapping", "error": {"title": "Only one class", "seen": "<x>"}}


def test_only_the_fields_of_the_chosen_source_are_sent():
    values = {
        "source": "table", "table": "t.csv", "column_file": "Scan", "column_label": "Dx", "column_patient": "",
        "pattern": "(?P<label>x)", "label_tag": "Modality", "depth": "2", "names": "",
    }  # fmt: skip
    nothing = {"rename": {}, "leave_out": []}
    assert order_of(values) == {
        "source": "table", "table": "t.csv", "columns": {"file": "Scan", "label": "Dx"}, **nothing,
    }  # fmt: skip
    assert order_of({**values, "source": "pattern"}) == {"source": "pattern", "pattern": "(?P<label>x)", **nothing}
    assert order_of({**values, "source": "dicom"}) == {"source": "dicom", "label_tag": "Modality", **nothing}
    assert order_of({**values, "source": "folders", "pattern": " "}) == {"source": "folders", "depth": 2, **nothing}
    assert order_of({}) == {"source": "folders", **nothing}


def test_lines_rename_classes_or_leave_them_out():
    assert names_of("0 = healthy\n1=ill = bad\nunsure =\n\nword\n= x") == (
        {"0": "healthy", "1": "ill = bad"},
        ["unsure"],
    )


def test_the_form_is_wanted_where_it_is_asked_for():
    assert wanted(WAITING, {})
    assert wanted({"status": "ready"}, {"mapping": True})
    assert not wanted({"status": "ready"}, {})
    assert not wanted({"status": "checking"}, {"mapping": True})
    assert not wanted(None, {"mapping": True})


def test_columns_show_samples_except_where_they_are_held_back():
    html = render_form(WAITING, FOUND)
    assert "Scan: a, b, &lt;i&gt;" in html
    assert "MRN (3 values, not shown)" in html
    assert '<option value="two" selected>' in html
    assert "3 of 3 rows match" in html
    assert "Leave it as it is" not in html
    assert "Leave it as it is" in render_form({**WAITING, "status": "ready"}, FOUND)
    bare = {**FOUND, "tables": [], "table": None, "guessed": [], "mapping": {"source": "folders"}}
    assert "There is no table among these files" in render_form(WAITING, bare)


def test_every_control_of_the_form_has_a_label_and_a_hint():
    html = render_form(WAITING, FOUND)
    for name in ("table", "sheet", "column_file", "column_label", "column_patient", "column_split", "pattern", "depth",
                 "label_tag", "names"):  # fmt: skip
        assert f'for="f-{name}"' in html and f'id="f-{name}"' in html
        assert f'aria-describedby="h-{name}"' in html and f'id="h-{name}"' in html


def test_the_preview_counts_shows_examples_and_says_what_does_not_fit():
    html = render_preview(FOUND)
    assert "Counted over the first 300 of 900 images" in html
    assert "&lt;ill&gt;" in html and "<ill>" not in html
    assert "rows of the table without an image" in html
    assert "it has no label" in html and "eye" in html and "Validation" in html


def test_a_problem_stands_in_place_of_the_counts():
    problem = {"title": "The pattern cannot be used", "seen": "(", "remedy": "Close it.", "code": "pattern"}
    html = render_preview({**FOUND, "problem": problem})
    assert "The pattern cannot be used (seen: (). Close it." in html
    assert "tiles" not in html


def test_the_head_says_why_it_is_asked():
    assert "Only one class (seen: &lt;x&gt;). Say below" in render_head(WAITING)
    assert "alert" not in render_head({**WAITING, "status": "ready"})
