"""The operating point on a page: the form that chooses it on validation images, and what it is worth on test images."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components import forms
from app.components.html import button, escape, stacked, table

RULES = (
    ("youden", "Best balance"),
    ("sensitivity", "Find at least this share"),
    ("specificity", "Spare at least this share"),
    ("cost", "Weigh missed against false alarms"),
)
USUAL = {"sensitivity": "95", "specificity": "90", "cost": "5"}
_ROWS = (
    ("sensitivity", "Sensitivity", "of the images that are {positive}, the share that is found"),
    ("specificity", "Specificity", "of the images that are {negative}, the share that is called so"),
    ("positive_predictive_value", "Positive predictive value", "of those called {positive}, the share that is"),
    ("negative_predictive_value", "Negative predictive value", "of those called {negative}, the share that is"),
)


def render_form(evaluation: dict[str, Any], reveal: str) -> str:
    """The form: a rule and its number. It starts at the point in use whenever ``reveal`` changes."""
    point = evaluation["operating_point"]
    positive = point["positive"]
    negative = next(name for name in evaluation["classes"] if name != positive)
    given = dict(USUAL)
    if point["target"] is not None:
        shown = point["target"] if point["criterion"] == "cost" else 100 * point["target"]
        given[point["criterion"]] = f"{shown:g}"
    return (
        f'<form class="card order" id="point-form" data-key="{escape(reveal)}" novalidate aria-label="Operating point">'
        "<h3>Where to draw the line <small>operating point</small></h3>"
        + forms.select("rule", "Choose it by", RULES, value=point["criterion"],
                       hint="Chosen on the validation images; the test images then say what it is worth.")
        + _number("sensitivity", f"Of {positive}, find at least", "percent", given,
                  "Sensitivity. Takes the highest threshold that reaches it on validation images.")
        + _number("specificity", f"Of {negative}, spare at least", "percent", given,
                  "Specificity. Takes the lowest threshold that reaches it on validation images.")
        + _number("cost", f"One missed {positive} weighs as much as", "false alarms", given,
                  "Takes the threshold with the least cost on validation images.")
        + '<button type="submit" class="button button-quiet"><span>Show what it would do</span></button></form>'
    )  # fmt: skip


def _number(name: str, label: str, unit: str, given: dict[str, str], hint: str) -> str:
    return (
        f'<div data-rule="{name}"><div class="field"><label for="f-point-{name}">{escape(label)} <small>{unit}</small>'
        f'</label><input id="f-point-{name}" name="{name}" type="text" inputmode="decimal" autocomplete="off"'
        f' value="{escape(given[name])}" aria-describedby="h-point-{name}"><span class="hint" id="h-point-{name}">'
        f"{escape(hint)}</span></div></div>"
    )


def read_criterion(values: dict[str, str]) -> str:
    """The rule as the backend reads it: percent become shares, an empty number the usual one."""
    rule = values.get("rule", "youden")
    if rule not in USUAL:
        return rule
    typed = (values.get(rule) or "").strip().replace(",", ".").rstrip("% ") or USUAL[rule]
    try:
        number = float(typed)
    except ValueError:
        return f"{rule}={typed[:20]}"  # the backend says what is wrong with it
    if rule != "cost" and number > 1:
        number /= 100
    return f"{rule}={number:g}"


def render_point(
    evaluation: dict[str, Any], model_id: str, criterion: str | None, reveal: str = "", *, change: bool = True
) -> str:
    """What the point is worth on test images, and whether the model is used with it.

    With ``reveal`` the page moves there, once for each of its values. Without ``change`` the point can be tried and not
    put to use: the model is another's.
    """
    point = evaluation["operating_point"]
    positive = point["positive"]
    negative = next(name for name in evaluation["classes"] if name != positive)
    patients = point.get("patients")
    head = ["", "Test images", *(["Test patients"] if patients else []), "Validation images"]
    rows = [
        (
            f"{title} <small>{escape(meaning.format(positive=positive, negative=negative))}</small>",
            stacked(point["test"][name]),
            *([stacked(patients[name])] if patients else []),
            stacked((point.get("val") or {}).get(name)),
        )
        for name, title, meaning in _ROWS
    ]
    body = table(head, rows, caption="What the operating point is worth", numeric=tuple(range(1, len(head))))
    curves = evaluation["curves"].get(positive)
    share = curves["precision_recall"]["prevalence"] if curves else None
    predictive = (
        f" The predictive values hold where {words.percent(share)} of the images are {positive}, as here; where "
        f"{positive} is rarer, fewer of those called so are."
    )
    there = f' tabindex="-1" data-reveal="{escape(reveal)}"' if reveal else ""
    return (
        f'<section class="card" id="models-point"><h3{there}>What it is worth <small>threshold '
        f"{words.score(point['threshold'])}</small></h3><p>{escape(point['sentence'])}</p>{body}"
        f'<p class="hint">In brackets the 95 % interval. Only test figures are a fair measure: the threshold was '
        f"fitted to the validation images.{escape(predictive)}</p>"
        f"{_state(point, model_id, criterion, change)}</section>"
    )


def _state(point: dict[str, Any], model_id: str, criterion: str | None, change: bool) -> str:
    """Whether the model answers by this point, and the buttons that change that."""
    if not point["in_use"]:
        use = button("Use this operating point", "use-point", look="primary", id=model_id, criterion=criterion or "")
        sentence = "This is a what-if: the model is still used with its former operating point."
        if not change:
            return f'<div class="point-state"><p>{sentence} Only its owner can change that.</p></div>'
        return f'<div class="point-state"><p>{sentence}</p>{use}</div>'
    if point["from_training"]:
        sentence = "In use: Classify goes by it. It was chosen when the model was trained."
        return f'<div class="point-state"><p>{sentence}</p></div>'
    back = button("Back to the training's own", "reset-point", look="quiet", id=model_id) if change else ""
    sentence = "In use: Classify goes by it, and the model card says so. It was chosen after training."
    return f'<div class="point-state"><p>{sentence}</p>{back}</div>'
