"""What the page Models makes of an evaluation: plain words, the matrix as buttons, rules of the form, a comparison."""

import re
from typing import Any

import pytest

from app.components import comparison, confusion, exports, operating, results
from app.components.curves import Curve, Mark, unit_chart
from app.components.html import escape
from app.pages.models import render_models
from tests.app.support import ALONE, METRIC, evaluation
from tests.app.test_pages import HOSTILE, model
from wara.training.methods import PEFT_METHODS

DIFFERENCE = {
    "difference": -0.011, "low": -0.019, "high": -0.005, "p": 0.0004, "method": "delong", "n_images": 40,
    "n_groups": 40, "warnings": [HOSTILE], "reading": "The AUROCs differ: the second model is better.",
}  # fmt: skip
COST = {
    "auroc": METRIC, "trained": 43_443, "total": 3_300_482, "share": 0.01316, "seconds": 60.0,
    "images_per_second": 14.2, "memory_mb": 1500.0, "full_memory_mb": None, "ppe": 0.958, "pme": None, "full": None,
}  # fmt: skip


def hostile(*classes: str, **changes: Any) -> dict[str, Any]:
    cell = {"files": [HOSTILE], "probabilities": [0.5], "n": 1}
    row = {"value": HOSTILE, "n_images": 3, "auroc": METRIC, "sensitivity": {HOSTILE: METRIC, "b": METRIC},
           "warnings": [HOSTILE]}  # fmt: skip
    known = evaluation(HOSTILE, "b", *classes, warnings=[HOSTILE],
                       subgroups={HOSTILE: {"rows": [row], "unknown": 2, "reading": HOSTILE}},
                       calibration={"note": HOSTILE, "uncalibrated": {"ece": METRIC}})  # fmt: skip
    known["confusion"] |= {"reading": HOSTILE, "cells": [cell | {"label": HOSTILE, "predicted": "b"}]}
    known["confident_errors"][0] |= {"file": HOSTILE}
    return known | changes


def everything() -> dict[str, str]:
    known, chosen = hostile(), {"label": HOSTILE, "predicted": "b"}
    models = [model(), model(id="m2", method="lora")]
    others = [(models[1], DIFFERENCE)]
    return {
        "head": results.render_head(model(), known, "t"),
        "many classes": results.render_head(model(), hostile("c"), "t"),
        "curves of classes": results.render_curves(hostile("c"), "m1"),
        "calibration": results.render_calibration(known, "m1"),
        "subgroups": results.render_subgroups(known),
        "form": operating.render_form(known, "t"),
        "matrix": confusion.render_confusion(known, "m1", chosen),
        "cell": confusion.render_cell(known, "m1", chosen, "t"),
        "errors": confusion.render_errors(known),
        "comparison": comparison.render_comparison(models, [known, known], others, [COST, COST], "t"),
        "refused": comparison.render_comparison(models, [known, known], [(models[1], HOSTILE)], [COST, COST], "t"),
    }


@pytest.mark.parametrize(("part", "html"), everything().items())
def test_text_from_outside_stays_text(part: str, html: str) -> None:
    assert "<script" not in html, part
    assert not [tag for tag in re.findall(r"<[a-z][^>]*>", html) if tag.count('"') % 2]
    assert escape(HOSTILE) in html
    assert "None" not in html and "nan" not in html


def test_the_answer_is_said_without_a_technical_term() -> None:
    known = evaluation()
    known["operating_point"]["test"] = {"sensitivity": {"value": 0.9}, "specificity": {"value": 0.75}}
    text = results.plain_words(known)
    for part in ("in 96 of 100 pairs (95 % interval 95 to 98)", "finds 90 of 100 ill", "calls 25 of 100 healthy"):
        assert part in text
    assert "20 test images that training" in text
    grouped = evaluation(n_patients=3, measured=known["measured"] | {"n_groups": 12})
    assert "of 12 patients" in results.plain_words(grouped)
    assert "recognises 96 of 100 images" in results.plain_words(evaluation("a", "b", "c"))


@pytest.mark.parametrize(
    ("share", "words"), [(0.9996, "more than 99"), (1.0, "100"), (0.001, "fewer than 1"), (0.0, "0")]
)
def test_a_share_near_the_end_is_not_rounded_to_it(share: float, words: str) -> None:
    measured = evaluation()["measured"] | {"auroc": {"value": share, "low": None, "high": None}}
    assert f"in {words} of 100 pairs." in results.plain_words(evaluation(measured=measured))


def test_what_could_not_be_measured_is_said() -> None:
    undefined = {"value": None, "low": None, "high": None, "note": "One class only."}
    measured = evaluation()["measured"] | {"auroc": undefined}
    known = evaluation(measured=measured, curves={})
    assert "could not be measured. One class only." in results.plain_words(known)
    assert results.render_curves(known, "m1") == "" and "–" in results.render_head(model(), known, "t")
    for nothing in (results.render_doubts(known), results.render_subgroups(known)):
        assert "None" not in nothing


def test_patients_stand_beside_images() -> None:
    patients = evaluation()["measured"] | {"n_images": 7, "rule": "worst", "mixed_left_out": 0, "warnings": ["Few."]}
    html = results.render_head(model(), evaluation(patients=patients), "t")
    for text in ("By image", "By patient", "7 patients", "the most suspicious", "Few."):
        assert text in html
    assert "By patient" not in results.render_head(model(), evaluation(), "t")


def test_a_cell_with_images_is_a_button_that_says_what_it_opens_and_an_empty_one_is_not() -> None:
    html = confusion.render_confusion(evaluation("a", "b", "c"), "m1", {"label": "a", "predicted": "b"})
    said = re.findall(r'aria-pressed="(\w+)"><b>(\d+)</b> <span class="sr-only">([^<]+)', html)
    assert len(said) == 6 and html.count("cell-none") == 3
    assert ("true", "1", "image truly a, called b: show") in said
    assert [pressed for pressed, _, _ in said].count("true") == 1


def test_images_that_are_gone_leave_their_names() -> None:
    known = evaluation(images={})
    html = confusion.render_cell(known, "m1", {"label": "ill", "predicted": "ill"}, "t")
    assert "<img" not in html and "data set was deleted" in html and "ill0.png" in html and "90.0 %" in html
    assert "no image here" in confusion.render_cell(known, "m1", {"label": "x", "predicted": "ill"}, "t")
    assert "No test image was called wrongly" in confusion.render_errors(evaluation(confident_errors=[]))


@pytest.mark.parametrize(
    ("values", "criterion"),
    [
        ({"rule": "youden", "sensitivity": "95"}, "youden"),
        ({"rule": "sensitivity", "sensitivity": "97,5 %"}, "sensitivity=0.975"),
        ({"rule": "specificity", "specificity": "0.9"}, "specificity=0.9"),
        ({"rule": "sensitivity", "sensitivity": ""}, "sensitivity=0.95"),
        ({"rule": "cost", "cost": "20"}, "cost=20"),
        ({"rule": "cost", "cost": "much"}, "cost=much"),
        ({"rule": "sensitivity", "sensitivity": "120"}, "sensitivity=1.2"),
        ({}, "youden"),
    ],
)
def test_a_rule_is_read_as_a_person_writes_it(values: dict[str, str], criterion: str) -> None:
    assert operating.read_criterion(values) == criterion


def test_whether_a_point_is_in_use_is_said_with_the_button_that_changes_it() -> None:
    known = evaluation()
    assert "button" not in operating.render_point(known, "m1", None)
    point = known["operating_point"]
    what_if = operating.render_point(
        known | {"operating_point": point | {"in_use": False, "from_training": False}}, "m1", "cost=5"
    )
    assert "what-if" in what_if and 'data-action="use-point"' in what_if and 'data-criterion="cost=5"' in what_if
    since = operating.render_point(known | {"operating_point": point | {"from_training": False}}, "m1", None)
    assert 'data-action="reset-point"' in since and "model card" in since


def test_the_form_starts_at_the_point_in_use() -> None:
    point = evaluation()["operating_point"] | {"criterion": "sensitivity", "target": 0.975}
    html = operating.render_form(evaluation(operating_point=point), "t")
    assert '<option value="sensitivity" selected>' in html and 'name="sensitivity"' in html and 'value="97.5"' in html


def test_a_comparison_names_difference_method_costs_and_what_is_missing() -> None:
    models = [model(name="A"), model(id="m2", name="B", method="lora")]
    known = evaluation()
    html = comparison.render_comparison(models, [known, known], [(models[1], DIFFERENCE)], [COST, COST], "t")
    for text in ("A minus B", "-0.011", "[-0.019, -0.005]", "&lt; 0.001", "DeLong", "B is better", "0.958", "1.3 % of",
                 "PME is missing", "stroke-lora", "dash-1"):  # fmt: skip
        assert text in html
    drawn = DIFFERENCE | {"method": "bootstrap", "p": None}
    for groups, words in ((40, "paired bootstrap over images"), (12, "paired bootstrap over patients")):
        found = [(models[1], drawn | {"n_groups": groups})]
        assert words in comparison.render_comparison(models, [known, known], found, [COST, COST], "t")
    full = COST | {"full_memory_mb": 3000.0, "pme": 0.8, "full": {"id": "f", "name": "Whole"}}
    html = comparison.render_comparison(models, [known, known], [(models[1], DIFFERENCE)], [full, full], "t")
    assert "(Whole, 2.9 GB)" in html and "missing" not in html
    refused = comparison.render_comparison(models, [known, known], [(models[1], "Other images.")], [COST, COST], "t")
    assert "Other images." in refused and "A minus B" not in refused and "0.958" in refused


def test_only_two_to_six_models_are_compared() -> None:
    assert "at least two" in comparison.choice_problem(["a"])
    assert comparison.choice_problem(["a", "b"]) == ""
    assert "at most 6" in comparison.choice_problem(list("abcdefg"))


def test_a_list_of_one_model_offers_no_comparison_but_its_results() -> None:
    one = render_models([model()], ALONE)
    assert 'data-part="compare"' not in one and 'data-action="results"' in one
    assert 'data-part="compare"' in render_models([model(), model(id="m2")], ALONE)


def test_a_share_stands_where_it_belongs_on_both_axes() -> None:
    curve = Curve("c", [0.0, 0.5, 1.0, float("nan")], [0.0, 0.8, 1.0, 0.5])
    svg = unit_chart("T", "", [curve], x_label="x", y_label="y", marks=[Mark("here", 0.5, 0.8)])
    points = re.search(r'class="curve[^"]*" points="([^"]+)"', svg)
    assert points is not None
    xs, ys = zip(*(map(float, pair.split(",")) for pair in points.group(1).split()), strict=True)
    assert len(xs) == 3 and xs[1] - xs[0] == pytest.approx(xs[2] - xs[1]) and ys[0] > ys[1] > ys[2]
    assert f'cx="{xs[1]:.1f}" cy="{ys[1]:.1f}"' in svg and "here at 0.50, 0.80" in svg


def test_only_methods_with_an_adapter_offer_one_and_no_name_of_a_file_overrides_the_servers() -> None:
    for method in ("wara", "tiny-wara", "lora", "linear-probe", "full"):
        kinds = re.findall(r"export\?format=(\w+)", exports.render_exports(model(method=method)))
        assert kinds == ["onnx", "merged", *(["peft"] if method in PEFT_METHODS else [])]
    html = exports.render_exports(model(id='"><script>'))
    assert " download" not in html and "<script" not in html


@pytest.mark.parametrize(("more", "kept"), [((), "changes no ranking"), (("c",), "changes no answer")])
def test_a_temperature_keeps_ranking_or_answer(more: tuple[str, ...], kept: str) -> None:
    known = evaluation("a", "b", *more, temperature=1.4, calibration={"note": None, "uncalibrated": {"ece": METRIC}})
    assert kept in results.render_calibration(known, "m1")
