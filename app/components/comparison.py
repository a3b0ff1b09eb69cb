"""Models side by side: curves over each other, paired differences, and what each of them cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.components import format as words
from app.components.curves import Curve, roc_curve, unit_chart
from app.components.html import alert, alerts, button, escape, stacked, table

MOST_MODELS = 6
MOST_CHARTS = 8  # classes with a chart of their own
_METHODS = {
    "delong": "DeLong's test",
    "bootstrap": "paired bootstrap over {}, which gives no p value",
}
_EFFICIENCY = (
    "PPE and PME set the AUROC against the share of trained parameters and against memory (score × exp(−log10(share + "
    "1)), as in the FPT papers): the higher, the more is had for the cost. They compare models of one data set only."
)


def choice_problem(ids: Sequence[str]) -> str:
    """Why these models cannot be compared, or nothing."""
    if len(ids) < 2:
        return "Choose at least two models by their check boxes, then compare."
    if len(ids) > MOST_MODELS:
        return f"{len(ids)} models are too many for one picture. Choose at most {MOST_MODELS}."
    return ""


def render_comparison(
    models: Sequence[dict[str, Any]],
    evaluations: Sequence[dict[str, Any]],
    differences: Sequence[tuple[dict[str, Any], dict[str, Any] | str]],
    costs: Sequence[dict[str, Any]],
    reveal: str,
) -> str:
    """The comparison of models with the first of them.

    Args:
        models: the models, the first of which the others are compared with.
        evaluations: what the backend knows of their test images, in the same order.
        differences: for each other model, the paired difference with the first, or why there is none.
        costs: what they cost, in the same order.
        reveal: changes with every opening, so that the page moves there once.
    """
    title = escape(f"{models[0]['name']} beside {', '.join(str(model['name']) for model in models[1:])}")
    close = button("Close the comparison", "close-comparison", look="icon", mark="close")
    refusals = list(dict.fromkeys(found for _, found in differences if isinstance(found, str)))
    readings = " ".join(_reading(models[0], *pair, several=len(models) > 2) for pair in differences)
    told = "".join(alert(sentence, kind="warning", title="Not paired.") for sentence in refusals)
    told += f'<p class="lead">{escape(readings)}</p>' if readings.strip() else ""
    return (
        '<article><section class="card" id="compared" data-state="ready"><div class="title-row">'
        f'<h2 class="big" tabindex="-1" data-reveal="{escape(reveal)}">{title}</h2>{close}</div>'
        f"{told}{_differences(models[0], differences)}</section>"
        f"{_curves(models, evaluations, comparable=not refusals)}{_costs(models, costs)}</article>"
    )


def _reading(first: dict[str, Any], other: dict[str, Any], found: dict[str, Any] | str, *, several: bool) -> str:
    """The backend's sentence, with the names of the models in place of their order."""
    if isinstance(found, str):
        return ""
    sentence = str(found["reading"])
    for word, model in (("the first model", first), ("the second model", other)):
        sentence = sentence.replace(word, str(model["name"]))
    return f"{other['name']}: {sentence}" if several else sentence


def _differences(first: dict[str, Any], differences: Sequence[tuple[dict[str, Any], dict[str, Any] | str]]) -> str:
    rows = []
    warnings: list[str] = []
    for other, found in differences:
        if isinstance(found, str):
            continue
        warnings += found["warnings"]
        span = "–"
        if found["low"] is not None:
            span = f"<small>[{found['low']:+.3f}, {found['high']:+.3f}]</small>"
        groups = "" if found["n_groups"] == found["n_images"] else f" of {words.plural(found['n_groups'], 'patient')}"
        rows.append((
            f"{escape(first['name'])} minus {escape(other['name'])}",
            f"<b>{found['difference']:+.3f}</b> {span}",
            _p_value(found["p"]),
            f"{escape(_method(found))} "
            f"<small>{words.plural(found['n_images'], 'test image')}{groups}</small>",
        ))  # fmt: skip
    if not rows:
        return ""
    body = table(["Paired difference", "AUROC", "p value", "Method"], rows, caption="Differences of AUROC",
                 numeric=(1, 2))  # fmt: skip
    several = (
        " Several differences are tested here, and nothing was corrected for that." if len(rows) > 1 else ""
    )  # fmt: skip
    return (
        f'{alerts(list(dict.fromkeys(warnings)))}{body}<p class="hint">Both models looked at the same images, so their '
        "difference is measured on pairs. If its 95 % interval holds 0, these images do not tell them apart."
        f"{several}</p>"
    )


def _method(found: dict[str, Any]) -> str:
    """How it was tested; an image whose patient is not known is drawn as one of its own."""
    drawn = "images" if found["n_groups"] == found["n_images"] else "patients"
    return str(_METHODS.get(found["method"], found["method"])).format(drawn)


def _p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "&lt; 0.001" if p < 0.001 else f"{p:.3f}"


def _curves(
    models: Sequence[dict[str, Any]], evaluations: Sequence[dict[str, Any]], *, comparable: bool
) -> str:  # fmt: skip
    """One chart for each class that all models know, with a curve of each model."""
    shared = [
        name
        for name in (evaluations[0]["curves"] if evaluations else {})
        if all(name in evaluation["curves"] for evaluation in evaluations)
    ]
    if not shared:
        return ""
    charts = "".join(
        unit_chart(
            f"ROC curve of {name}",
            "against the rest",
            [_model_curve(place, model, evaluation["curves"][name])
             for place, (model, evaluation) in enumerate(zip(models, evaluations, strict=True))],
            x_label="false alarms (1 - specificity)", y_label="found (sensitivity)", diagonal=True,
        )
        for name in shared[:MOST_CHARTS]
    )  # fmt: skip
    rest = len(shared) - MOST_CHARTS
    more = f" The first {MOST_CHARTS} of {len(shared)} classes are drawn." if rest > 0 else ""
    other = "" if comparable else " These were measured on different images, so the distance between them says little."
    return (
        '<section class="card" id="compared-curves"><h3>Curves over each other</h3>'
        f'<div class="charts">{charts}</div><p class="hint">The nearer a curve comes to the upper left corner, the '
        f"more is found for the same false alarms. Behind each name: the area under its curve.{other}{more}</p>"
        "</section>"
    )


def _model_curve(place: int, model: dict[str, Any], entry: dict[str, Any]) -> Curve:
    return roc_curve(entry, str(model["name"]), colour=str(model["method"]), dash=place)


def _costs(models: Sequence[dict[str, Any]], costs: Sequence[dict[str, Any]]) -> str:
    head = ["Model", "AUROC", "Trained parameters", "Training time", "Images/s", "Peak memory", "PPE", "PME"]
    rows = [
        (
            f'<i class="swatch swatch-{escape(model["method"])}"></i>{escape(model["name"])} '
            f"<small>{escape(words.method_name(model['method']))}</small>",
            stacked(cost["auroc"]),
            f"{words.count(cost['trained'])} <small>{_share(cost)}</small>",
            words.duration(cost["seconds"]),
            words.count(cost["images_per_second"]),
            words.size(cost["memory_mb"]),
            words.score(cost["ppe"]),
            words.score(cost["pme"]),
        )
        for model, cost in zip(models, costs, strict=True)
    ]
    body = table(head, rows, caption="What each model cost", numeric=tuple(range(1, len(head))))
    return (
        f'<section class="card" id="compared-costs"><h3>What it cost</h3>{body}'
        f'<p class="hint">{escape(_EFFICIENCY)} {escape(_of_memory(costs))}</p></section>'
    )


def _share(cost: dict[str, Any]) -> str:
    return "" if cost["share"] is None else f"{words.percent(cost['share'])} of {words.count(cost['total'])}"


def _of_memory(costs: Sequence[dict[str, Any]]) -> str:
    """What PME takes as the memory of the whole network, or why it is missing."""
    known = {cost["full"]["name"]: cost["full_memory_mb"] for cost in costs if cost["full"] and cost["full_memory_mb"]}
    told = "; ".join(f"{name}, {words.size(memory)}" for name, memory in known.items())
    sentence = f"Memory is set against that of training the whole network ({told})." if known else ""
    if any(cost["full_memory_mb"] is None for cost in costs):
        sentence += (
            " Where PME is missing, no training of the whole network with the same data, backbone, image size and "
            "batch size is on this server: train one by the method Whole network to have it."
        )
    return sentence.strip()
