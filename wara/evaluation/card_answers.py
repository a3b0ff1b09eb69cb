"""What the model card says of a run's answers: patients, operating point, calibration, sets, warning, subgroups."""

from __future__ import annotations

from collections.abc import Sequence

from wara.evaluation.choices import percent_asked
from wara.evaluation.markdown import Fields, count, interval, percent, table, text

_RULES = {
    "mean": "the mean of the probabilities of a patient's images",
    "worst": "the most suspicious image of a patient",
}
_TRAITS = {"sex": "Sex", "age": "Age"}


def answers(metrics: Fields, classes: Sequence[object]) -> str:
    """Return a part each, with its heading, on what metrics.json knows beyond the plain metrics.

    Args:
        metrics: what metrics.json holds.
        classes: the class names.
    """
    parts = {
        "Patients": _patients(metrics),
        "Operating point": _operating_point(metrics),
        "Calibration": _calibration(metrics),
        "Prediction sets": _sets(metrics),
        "Images unlike the training images": _warning(metrics),
    }
    return "\n\n".join(f"### {heading}\n\n{part}" for heading, part in parts.items() if part)


def _patients(metrics: Fields) -> str:
    patients = metrics["test"].get("patients")
    if not patients:
        return ""
    mixed = patients["mixed_left_out"]
    left_out = f" {count(mixed)} with images of several classes were left out." if mixed else ""
    return (
        f"By patient ({count(patients['n_images'])} test patients, judged by {_RULES[patients['rule']]}): AUROC "
        f"{interval(patients['auroc'])}, balanced accuracy {interval(patients['balanced_accuracy'])}.{left_out}"
    )


def _operating_point(metrics: Fields) -> str:
    point = metrics.get("operating_point")
    if not point:
        return ""
    test = point["test"]
    return (
        f"{text(point['sentence'])} On test images: sensitivity {interval(test['sensitivity'])}, "
        f"specificity {interval(test['specificity'])}; of those called {text(point['positive'])} "
        f"{percent(test['positive_predictive_value'])} were, of the others "
        f"{percent(test['negative_predictive_value'])} were not, at the share of cases in these images, which may be "
        "another where the model is used."
    )


def _calibration(metrics: Fields) -> str:
    calibration = metrics.get("calibration")
    if not calibration:
        return ""
    if calibration["note"]:
        return f"The probabilities are the network's own. {text(calibration['note'])}"
    temperature = calibration["temperature"]
    how = "too sure of itself" if temperature > 1 else "not sure enough of itself"
    before, after = calibration["uncalibrated"], metrics["test"]
    return (
        f"On validation images the network was {how}; its probabilities were corrected by a "
        f"temperature of {temperature:.2f}. Calibration error on test images {interval(after['ece'])}, without the "
        f"correction {interval(before['ece'])} (in {after['ece_bins']} bins of equal mass); Brier score "
        f"{interval(after['brier'])} and {interval(before['brier'])}."
    )


def _sets(metrics: Fields) -> str:
    sets = metrics.get("prediction_sets")
    if not sets:
        return ""
    if sets.get("note"):
        return text(sets['note'])
    return (
        f"Asked to hold the true class for {percent_asked(sets['asked'])} of images, they held it for "
        f"{percent(sets['coverage'])} of the test images, with {sets['mean_size']:.2f} classes on average; "
        f"{sets['single']:.0%} of the sets were a single class. The promise holds for images of the same source only."
    )


def _warning(metrics: Fields) -> str:
    novelty = metrics.get("novelty")
    if not novelty:
        return ""
    return (
        "An image is marked when it lies farther from the training images than "
        f"{1 - novelty['expected_false_alarms']:.0%} of the validation images do. "
        f"{percent(novelty['false_alarms'])} of the test images were marked, about "
        f"{novelty['expected_false_alarms']:.0%} were to be expected. How many images of another kind it marks was not "
        "measured."
    )


def subgroups(metrics: Fields, classes: Sequence[object]) -> str:
    """Return the table of test figures by subgroup, each with its reading; nothing where no trait is known."""
    parts = []
    for trait, found in (metrics.get("subgroups") or {}).items():
        rows: list[list[object]] = []
        for row in found["rows"]:
            sensitivities = [interval(row["sensitivity"][str(name)]) for name in classes]
            rows.append([text(row["value"]), count(row["n_images"]), interval(row["auroc"]), *sensitivities])
        unknown = f" Not known for {count(found['unknown'])} images." if found["unknown"] else ""
        if rows:
            head = [_TRAITS.get(trait, text(trait)), "test images", "AUROC", *(f"{text(n)} found" for n in classes)]
            parts.append(table(head, rows, turn=True))
        parts.append(f"{text(found['reading'])}{unknown}")
    return "\n\n".join(["### Subgroups", *parts]) if parts else ""
