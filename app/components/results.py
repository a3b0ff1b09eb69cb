"""How good a model is, for somebody who is no statistician: every figure with its interval and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.client import browser_url
from app.components import format as words
from app.components.curves import Curve, Mark, class_colour, recall_curve, roc_curve, unit_chart
from app.components.html import alert, alerts, button, escape, icon, next_step, stacked, table

MOST_CLASSES = 10  # with a row of their own among the headline figures
_HEADLINE = (
    ("auroc", "AUROC", "how well the classes are told apart, at any threshold; 0.5 is chance, 1 perfect"),
    ("balanced_accuracy", "Balanced accuracy", "mean share of each class that is recognised"),
    ("accuracy", "Accuracy", "share of all that are called rightly; common classes count most"),
)
_RULES = {
    "mean": "the mean of the probabilities of the patient's images",
    "worst": "the most suspicious of the patient's images",
}
_TRAITS = {"sex": "Sex", "age": "Age"}


def render_head(model: dict[str, Any], evaluation: dict[str, Any], reveal: str) -> str:
    """Title, the answer in plain words, what to beware of, and the headline figures.

    Args:
        model: the model.
        evaluation: what the backend knows of its test images.
        reveal: changes with every opening, so that the page moves there once.
    """
    name, model_id = str(model["name"]), str(model["id"])
    close = button("Close the results", "close-results", look="icon", mark="close", id=model_id)
    card = button("Model card", "card", look="quiet", mark="card", id=model_id, name=name)
    untrained = ""
    if not model.get("pretrained", True):
        untrained = alert(
            "This model was trained from random weights, to try the steps. Its figures mean nothing.", kind="warning"
        )
    return (
        f'<section class="card" data-state="ready"><div class="title-row"><h2 class="big" tabindex="-1" '
        f'data-reveal="{escape(reveal)}">How good is {escape(name)}?</h2><div class="title-side">{card}{close}</div>'
        "</div>"
        f'<p class="lead">{escape(plain_words(evaluation))}</p>{untrained}{alerts(_warnings(evaluation))}'
        f"{_headline(evaluation)}</section>"
    )


def plain_words(evaluation: dict[str, Any]) -> str:
    """The result in sentences without a technical term."""
    area = evaluation["measured"]["auroc"]
    images = words.plural(evaluation["n_images"], "test image")
    people = ""
    if evaluation["n_patients"]:  # an image without a number counts as a patient of its own
        people = f" of {words.plural(evaluation['measured']['n_groups'], 'patient')}"
    on = f"Measured on {images}{people} that training had not seen."
    point = evaluation["operating_point"]
    if area["value"] is None:
        return f"How well the classes are told apart could not be measured. {area.get('note') or ''} {on}".replace(
            "  ", " "
        )
    sure = f" (95 % interval {_of_100(area['low'])} to {_of_100(area['high'])})" if area.get("low") is not None else ""
    if point is None:
        recognised = evaluation["measured"]["balanced_accuracy"]["value"]
        return (
            f"Given an image of a class and one of another, the model gives the first the higher probability of that "
            f"class in {_of_100(area['value'])} of 100 such pairs{sure}. It recognises {_of_100(recognised)} of 100 "
            f"images, averaged over the classes. {on}"
        )
    positive = point["positive"]
    negative = next(name for name in evaluation["classes"] if name != positive)
    found, spared = point["test"]["sensitivity"]["value"], point["test"]["specificity"]["value"]
    alarms = None if spared is None else 1 - spared
    return (
        f"Shown one image that is {positive} and one that is {negative}, the model picks the right one as {positive} "
        f"in {_of_100(area['value'])} of 100 pairs{sure}. At this operating point it finds {_of_100(found)} of 100 "
        f"{positive} images, and calls {_of_100(alarms)} of 100 {negative} images {positive} by mistake. {on}"
    )


def _of_100(share: float | None) -> str:
    if share is None:
        return "an unknown number"
    if 0 < share < 0.005:
        return "fewer than 1"
    if 0.995 <= share < 1:
        return "more than 99"
    return f"{100 * share:.0f}"


def _warnings(evaluation: dict[str, Any]) -> list[str]:
    of_patients = (evaluation.get("patients") or {}).get("warnings", [])
    return list(dict.fromkeys([*evaluation["warnings"], *of_patients]))


def _headline(evaluation: dict[str, Any]) -> str:
    """Metrics of images, and of patients beside them where patients have several images."""
    sides = [("By image", evaluation["measured"], "image")]
    patients = evaluation.get("patients")
    if patients:
        sides.append(("By patient", patients, "patient"))
    head = [
        '<span class="sr-only">Measure</span>',
        *(f"{title} <small>{words.plural(side['n_images'], one)}</small>" for title, side, one in sides),
    ]
    rows = [
        (f"{title} <small>{meaning}</small>", *(stacked(side[key]) for _, side, _ in sides))
        for key, title, meaning in _HEADLINE
    ]
    classes = evaluation["classes"]
    if 2 < len(classes) <= MOST_CLASSES:  # of two classes these are sensitivity and specificity, which stand below
        rows += [
            (
                f"{escape(name)} recognised <small>share of those truly {escape(name)}</small>",
                *(stacked(side["sensitivity"][name]) for _, side, _ in sides),
            )
            for name in classes
        ]
    hint = "In brackets the 95 % interval: repeated on other images of the same kind, the figure would lie about there."
    if patients:
        hint += f" By patient, the answer is {_RULES.get(patients['rule'], patients['rule'])}."
        if patients["mixed_left_out"]:
            left = words.plural(patients["mixed_left_out"], "patient")
            hint += f" {left} with images of several classes left out."
    if evaluation["n_patients"] and evaluation["n_patients"] < evaluation["measured"]["n_groups"]:
        hint += " An image without a patient number counts as a patient of its own."
    notes = dict.fromkeys(
        f"{title}: {side[key]['note']}" for key, title, _ in _HEADLINE for _, side, _ in sides if side[key].get("note")
    )
    more = "".join(f'<p class="hint">{escape(note)}</p>' for note in notes)
    body = table(head, rows, caption="Test figures", numeric=tuple(range(1, len(head))))
    return f'<div id="models-figures">{body}</div><p class="hint">{escape(hint)}</p>{more}'


def render_curves(evaluation: dict[str, Any], model_id: str) -> str:
    """ROC and precision-recall curves; with two classes the operating point stands on them."""
    curves, point = evaluation["curves"], evaluation["operating_point"]
    if not curves:
        return ""
    one = len(curves) == 1
    shown = [
        (entry, name, {} if one else {"colour": class_colour(place), "dash": place})
        for place, (name, entry) in enumerate(curves.items())
    ]
    roc = [roc_curve(entry, name, **look) for entry, name, look in shown]
    recall = [recall_curve(entry, name, **look) for entry, name, look in shown]
    marks = _marks(point) if one else ([], [])
    level = next(iter(curves.values()))["precision_recall"]["prevalence"] if one else None
    bands = "; shaded: 95 % band" if len(curves) <= 3 else ""
    areas = f"area {roc[0].note}{bands}" if one else f"each class against the rest{bands}"
    means = f"mean precision {recall[0].note}{bands}" if one else f"each class against the rest{bands}"
    drawn = unit_chart(
        "ROC curve", areas, roc, x_label="false alarms (1 - specificity)", y_label="found (sensitivity)",
        diagonal=True, marks=marks[0], legend=not one,
    ) + unit_chart(
        "Precision-recall curve", means, recall, x_label="found (sensitivity)",
        y_label="right among those called (precision)", level=level, marks=marks[1], legend=not one,
    )  # fmt: skip
    text = (
        "Each point of a curve is one threshold. Left: the nearer the curve comes to the upper left corner, the more "
        "is found for the same false alarms; the dotted diagonal is chance. Right: of those called so, how many are, "
        "against how many are found" + ("; the dotted line is what calling every image so would give." if one else ".")
    )
    return (
        '<section class="card" id="models-curves"><div class="title-row"><h3>What each threshold would find</h3>'
        f'{_links(model_id, "curves")}</div><div class="charts">{drawn}</div><p class="hint">{text}</p></section>'
    )


def _links(model_id: str, figure: str) -> str:
    """The same as a picture to keep, for light and for dark pages."""
    links = "".join(
        f'<a class="link" href="{escape(browser_url("models", model_id, "evaluation", f"{figure}.png", theme=theme))}"'
        f' download="{figure}-{theme}.png">{icon("download")}Figure, {theme}</a>'
        for theme in ("light", "dark")
    )
    return f'<span class="links">{links}</span>'


def _marks(point: dict[str, Any] | None) -> tuple[list[Mark], list[Mark]]:
    if point is None:
        return [], []
    test = point["test"]
    found, spared = test["sensitivity"]["value"], test["specificity"]["value"]
    right = test["positive_predictive_value"]["value"]
    roc = [] if None in (found, spared) else [Mark("operating point", 1 - spared, found)]
    return roc, [] if None in (found, right) else [Mark("operating point", found, right)]


def render_calibration(evaluation: dict[str, Any], model_id: str) -> str:
    """Whether the probabilities can be believed: the reliability curve, the error, and whether they were corrected."""
    points, raw = evaluation["reliability"], evaluation["reliability_uncalibrated"]
    known, ece = evaluation.get("calibration") or {}, evaluation["measured"]["ece"]
    drawn = [
        Curve("shown (corrected)" if raw != points else "shown", [p["stated"] for p in points],
              [p["observed"] for p in points], spans=[(p["stated"], p["low"], p["high"]) for p in points],
              note=f"error {words.score(ece['value'])}")
    ]  # fmt: skip
    before = (known.get("uncalibrated") or {}).get("ece") or {}
    if raw != points:
        drawn.insert(0, Curve("the network's own", [p["stated"] for p in raw], [p["observed"] for p in raw], "muted", 1,
                              note=f"error {words.score(before.get('value'))}"))  # fmt: skip
    positive = evaluation["operating_point"]["positive"] if evaluation["operating_point"] else None
    chart = unit_chart(
        "Calibration curve", "bars: 95 % interval", drawn, diagonal=True,
        x_label=f"stated probability of {positive}" if positive else "stated probability of the answer",
        y_label=f"share that is {positive}" if positive else "share of right answers",
    )  # fmt: skip
    lines = [f"<b>Calibration error (ECE) {escape(words.interval(ece))}</b>: the mean gap between what is stated and "
             "what is so; 0 is perfect."]  # fmt: skip
    temperature = evaluation["temperature"]
    if known.get("note"):
        lines.append(f"The probabilities are the network's own. {escape(known['note'])}")
    elif temperature == 1:
        lines.append("The probabilities are the network's own.")
    else:
        how = "too sure of itself" if temperature > 1 else "not sure enough of itself"
        # Of more than two classes images may change places in the order of one class, and its AUROC with them.
        kept = "no ranking" if len(evaluation["classes"]) == 2 else "no answer"
        lines.append(
            f"On validation images the network was {how}; every probability was corrected by a temperature of "
            f"{temperature:.2f}, which changes {kept}. Without it the error is {escape(words.interval(before))}."
        )
    lines.append(
        "On the dotted diagonal the probabilities are exactly true: of the images given 70 %, seven in ten are. Below "
        "it the model is too sure."
    )
    text = "".join(f"<p>{line}</p>" for line in lines)
    return (
        '<section class="card" id="models-calibration"><div class="title-row"><h3>Can the probabilities be believed? '
        f'<small>calibration</small></h3>{_links(model_id, "reliability")}</div>'
        f'<div class="charts beside">{chart}<div class="reading">{text}</div></div>'
        "</section>"
    )


def render_doubts(evaluation: dict[str, Any]) -> str:
    """How often the answers that express doubt are right: prediction sets, and the warning for unlike images."""
    return f'<div class="pair">{_sets(evaluation)}{_novelty(evaluation)}</div>'


def _sets(evaluation: dict[str, Any]) -> str:
    sets = evaluation.get("prediction_sets")
    if not sets:
        body = "<p>This model gives no prediction sets.</p>"
    elif sets.get("note"):
        body = f"<p>{escape(sets['note'])}</p>"
    else:
        rows = [
            ("Asked for", words.percent(sets["asked"])),
            ("Measured on test images", _share(sets["coverage"])),
            ("Classes in a set, on average", f"{sets['mean_size']:.2f}"),
            ("Sets of a single class", words.percent(sets["single"])),
        ]
        body = table(["Share of sets with the true class", ""], rows, caption="Prediction sets", numeric=(1,))
    return (
        '<section class="card" id="models-sets"><h3>Classes that cannot be ruled out <small>prediction sets</small>'
        f'</h3>{body}<p class="hint">Each answer comes with a set of classes that is to hold the true one as often as '
        "asked for. If the measured share is clearly lower, do not rely on the sets; it holds for images of the same "
        "source only.</p></section>"
    )


def _novelty(evaluation: dict[str, Any]) -> str:
    novelty = evaluation.get("novelty")
    if novelty:
        rows = [
            ("Expected", words.percent(novelty["expected_false_alarms"])),
            ("Measured on test images", _share(novelty["false_alarms"])),
        ]
        body = table(["Warnings without cause", ""], rows, caption="Warnings for unlike images", numeric=(1,))
    else:
        body = "<p>This model gives no such warning: too few images for it.</p>"
    return (
        '<section class="card" id="models-novelty"><h3>Warning for unlike images <small>false alarms</small></h3>'
        f'{body}<p class="hint">An image far from all training images is marked. Test images are of the same kind, so '
        "each mark on them is a false alarm. How many truly foreign images it catches was not measured.</p></section>"
    )


def render_subgroups(evaluation: dict[str, Any]) -> str:
    """The test figures of each subgroup, where sex or age is known; otherwise that they are not."""
    found = evaluation.get("subgroups") or {}
    if not found:
        return (
            '<section class="card" id="models-subgroups"><h3>Sex and age</h3><p class="hint">Not known for these '
            "images, so nobody can say whether the model is worse for some people. Columns sex and age in the table of "
            "labels would show it, or DICOM headers, where you agree on the page Data that both are kept.</p></section>"
        )
    classes = evaluation["classes"][:MOST_CLASSES]
    parts = [_subgroup(trait, entry, classes) for trait, entry in found.items()]
    return (
        '<section class="card" id="models-subgroups"><h3>Is it as good for everybody? <small>subgroups</small></h3>'
        f"{''.join(parts)}</section>"
    )


def _subgroup(trait: str, entry: dict[str, Any], classes: Sequence[str]) -> str:
    title = _TRAITS.get(trait, trait)
    head = [escape(title), "Test images", "AUROC", *(f"{escape(name)} recognised" for name in classes)]
    rows = [
        (
            escape(row["value"]),
            words.count(row["n_images"]),
            stacked(row["auroc"]),
            *(stacked(row["sensitivity"][name]) for name in classes),
        )
        for row in entry["rows"]
    ]
    body = table(head, rows, caption=f"Test figures by {title}", numeric=tuple(range(1, len(head)))) if rows else ""
    unknown = f" Not known for {words.plural(entry['unknown'], 'image')}." if entry["unknown"] else ""
    few = [f"{row['value']}: {warning}" for row in entry["rows"] for warning in row["warnings"]]
    more = f'<details class="fold"><summary>Small groups ({len(few)})</summary>{alerts(few)}</details>' if few else ""
    return f'{body}<p class="hint">{escape(entry["reading"])}{unknown}</p>{more}'


def render_next(model: dict[str, Any]) -> str:
    """What to do after reading the results."""
    return next_step("Let this model look at images it has never seen.", "Classify images", "classify",
                     f"classify-model:model={model['id']}")  # fmt: skip


def _share(entry: dict[str, Any]) -> str:
    """A share in per cent, its interval in small type beside it."""
    if entry.get("value") is None:
        return "–"
    text = f"<b>{words.percent(entry['value'])}</b>"
    if entry.get("low") is not None and entry.get("high") is not None:
        text += f" <small>[{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]</small>"
    return text
