"""The model card of a run as Markdown, under the headings of dinov2's MODEL_CARD: what it is for and how good it is.

It is written to be passed on with the model, so it names no patient, no file and no folder of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from wara.analysis.style import METHOD_LABELS
from wara.evaluation.card_answers import answers, subgroups
from wara.evaluation.card_data import data, leaks_into_test
from wara.evaluation.markdown import code as _code
from wara.evaluation.markdown import count as _count
from wara.evaluation.markdown import interval
from wara.evaluation.markdown import table as _table
from wara.evaluation.markdown import text as _text

__all__ = ["interval", "render_card"]

Fields = Mapping[str, Any]

_METHODS = {
    "wara": "WaRA (wavelet low-rank adaptation, arXiv:2506.24092)",
    "tiny-wara": "Tiny-WaRA (wavelet low-rank adaptation with a fixed basis, arXiv:2506.24092)",
    "lora": "LoRA (low-rank adaptation, arXiv:2106.09685)",
    "linear-probe": "linear probe (the backbone stays as it is, only the last layer is trained)",
    "full": "full fine-tuning (every weight is trained)",
}
_METRICS = (
    ("auroc", "AUROC", "how well the classes are told apart; 0.5 is chance, 1 is perfect"),
    ("balanced_accuracy", "Balanced accuracy", "mean share of each class that is found"),
    ("accuracy", "Accuracy", "share of all images classified correctly"),
    ("f1", "F1, mean over classes", "balance of finding a class and being right about it"),
    ("brier", "Brier score", "error of the probabilities; lower is better"),
    ("ece", "Calibration error (ECE)", "gap between stated confidence and truth; lower is better"),
)
_NOT_PRETRAINED = (
    "\n\n**The backbone was not pretrained.** This run shows the workflow; its results say nothing of the method."
)
_SMALL_TEST = 100


def render_card(recipe: Fields, metrics: Fields, report: Fields) -> str:
    """Return the model card of a run.

    Args:
        recipe: what recipe.json holds.
        metrics: what metrics.json holds.
        report: the data report, see :func:`wara.data.report.data_report`.

    Returns:
        Markdown. It holds counts and names of classes, and no identifier of a patient, no file name, no path.
    """
    sections = (_title, _uses, _limits, _data, _procedure, _results, _bias, _load)
    return "\n\n".join(section(recipe, metrics, report) for section in sections) + "\n"


def _title(recipe: Fields, metrics: Fields, report: Fields) -> str:
    classes = ", ".join(_text(name) for name in recipe["classes"])
    area = metrics["test"]["auroc"]
    method = METHOD_LABELS.get(recipe["method"], recipe["method"])
    untrained = "" if recipe["backbone"].get("pretrained", True) else _NOT_PRETRAINED
    day = recipe.get("imported")
    elsewhere = f"\n\n**Imported on {_text(day)}.** It was trained, and its figures measured, elsewhere." if day else ""
    return (
        f"# Model card: {method} on {_text(recipe['backbone']['name'])}\n\n"
        f"An image classifier for {len(recipe['classes'])} classes ({classes}). "
        f"AUROC on test images: **{interval(area)}**.\n\n"
        "> **A research tool, not a medical device.** It must not be used for diagnosis or to decide on treatment."
        f"{untrained}{elsewhere}"
    )


def _uses(recipe: Fields, metrics: Fields, report: Fields) -> str:
    return (
        "## Intended use\n\n"
        "A research tool, not a medical device.\n\n"
        "- Research on images of the kind it was trained on: method comparison, sorting of collections, hypotheses.\n"
        "- Every result that matters is to be checked by a person qualified to read such images."
    )


def _limits(recipe: Fields, metrics: Fields, report: Fields) -> str:
    size, fit = recipe["image"]["size"], _fit(recipe["image"])
    return (
        "### Out of scope\n\n"
        "- Diagnosis, screening, triage, or any use that touches the care of a patient.\n"
        "- Images from other scanners, sites, populations or of other body parts, until it has been tested there.\n"
        "- Images that belong to none of the classes: it has no answer \"none of these\" and will name one of them"
        + (", with a warning where the image is unlike the training images as far as it can tell.\n"
           if metrics.get("novelty") else ".\n") +
        f"- Detail finer than the model sees: every image is brought to {size} x {size} pixels ({fit})."
    )  # fmt: skip


def _data(recipe: Fields, metrics: Fields, report: Fields) -> str:
    return data(recipe, report)


def _procedure(recipe: Fields, metrics: Fields, report: Fields) -> str:
    backbone = recipe["backbone"]
    source = {"hub": "from the hub", "file": "from a local file", "untrained": "random, not pretrained"}.get(
        str(backbone.get("source")), str(backbone.get("source"))
    )
    weights = f" {_code(_basename(backbone['file']))}" if backbone.get("file") else ""
    digest = f", SHA-256 {_code(str(backbone['sha256'])[:16])}" if backbone.get("sha256") else ""
    rows: list[list[object]] = [
        ["method", _METHODS.get(recipe["method"], recipe["method"])],
        ["backbone", f"{_text(backbone['name'])}, weights {source}{weights}{digest}"],
        *_adapter_rows(recipe),
        ["optimiser", f"AdamW, largest step size {_number(recipe.get('learning_rate'))}, "
                      f"weight decay {_number(recipe.get('weight_decay'))}, batches of {recipe.get('batch_size')}"],
        ["training", f"{metrics.get('epochs_run')} passes through the training images; that of pass "
                     f"{metrics.get('best_epoch')} was kept, chosen on the validation images"],
        ["trained parameters", f"{_count(metrics.get('trainable_parameters'))}, "
                               f"of which in the adapter {_count(metrics.get('adapter_parameters'))}"],
        ["class weights in the loss", "yes" if recipe.get("class_balanced") else "no"],
        ["changes to training images", _text(recipe.get("augment", "none"))],
        ["image as the model sees it", _image(recipe)],
        ["DICOM files", f"frames: {_text(recipe.get('frames', 'middle'))}; window number {recipe.get('window', 1)}"],
        ["arithmetic", _text(recipe.get("precision", "auto"))],
        ["seed", recipe.get("seed")],
        ["time and machine", f"{_duration(metrics.get('seconds'))} on "
                             f"{_text(recipe.get('device_name') or recipe.get('device') or 'a machine not known')}"],
        ["memory at its peak", _memory(metrics.get("peak_memory_mb"))],
    ]  # fmt: skip
    software = ", ".join(f"{_text(name)} {_text(version)}" for name, version in recipe.get("packages", {}).items())
    parts = ["## Training procedure", _table(["what", "value"], rows)]
    if software:
        parts += ["### Versions", f"{software}."]
    return "\n\n".join(parts)


def _image(recipe: Fields) -> str:
    image = recipe["image"]
    means, stds = (", ".join(f"{number:g}" for number in image[key]) for key in ("mean", "std"))
    return f"{image['size']} x {image['size']} pixels ({_fit(image)}); colours less {means}, over {stds}"


def _fit(image: Fields) -> str:
    fits = {"pad": "whole, on a black ground", "crop": "cut to the central square", "stretch": "stretched to a square"}
    return fits.get(image["fit"], _text(image["fit"]))


def _memory(megabytes: object) -> str:
    return f"{megabytes / 1024:.1f} GiB" if isinstance(megabytes, int | float) else "not known"


def _adapter_rows(recipe: Fields) -> list[list[object]]:
    method, readout = recipe["method"], recipe.get("readout", "none")
    second: list[list[object]] = []
    if readout != "none":
        where = ", where the backbone allows it" if readout == "auto" else ""
        said = f"from wavelet subbands of the lower blocks, in equal parts with the head's{where}"
        second = [["second answer", said]]
    if method not in ("wara", "tiny-wara", "lora"):
        return second
    places = {"qkv": "queries, keys and values of attention", "proj": "projection behind attention"}
    target = str(recipe.get("target", "qkv"))
    rows: list[list[object]] = [["adapted layers", places.get(target, _text(target))], ["rank", recipe.get("rank")]]
    if method != "lora":
        depth = recipe.get("levels") or "as many levels as by default"
        levels = f"{depth} levels" if isinstance(depth, int) else depth
        rows.append(["wavelet", f"{recipe.get('wavelet')}, {levels}, border {recipe.get('mode', 'symmetric')}"])
        rows.append(["gains and activation", f"{recipe.get('gains')}, {recipe.get('activation')}"])
    return rows + second


def _results(recipe: Fields, metrics: Fields, report: Fields) -> str:
    test = metrics["test"]
    grouped = test["n_groups"] != test["n_images"]
    over = f"{test['n_groups']:,} patients" if grouped else "images"
    rows = [
        [f"{label}: {meaning}", interval(test[name]), interval(metrics.get("val", {}).get(name, {}))]
        for name, label, meaning in _METRICS
    ]
    per_class = [
        [_text(name), _count(test["per_class_n"][name]), interval(test["sensitivity"][name]),
         interval(test["specificity"][name]), interval(test["auroc_per_class"][name])]
        for name in map(str, recipe["classes"])
    ]  # fmt: skip
    predicted = [[_text(name), *row] for name, row in zip(recipe["classes"], test["confusion"], strict=True)]
    parts = [
        "## Results",
        f"On {_count(test['n_images'])} test images"
        + (f" of {_count(test['n_groups'])} patients" if grouped else "")
        + ", which neither training nor the choice of the model saw. In brackets: 95 % intervals by bootstrap over "
        f"{over} ({test['replicates']:,} resamples; exact binomial where all came out the same way).",
        _table(["figure", "test", "validation"], rows),
        "### Classes",
        _table(["class", "test images", "sensitivity", "specificity", "AUROC against the rest"], per_class),
        _table(["true class", *(f"called {_text(name)}" for name in recipe["classes"])], predicted),
        _notes(test),
        answers(metrics, recipe["classes"]),
        subgroups(metrics, recipe["classes"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _notes(test: Fields) -> str:
    notes: dict[str, list[str]] = {}
    for name, label, _ in _METRICS:
        if test[name].get("note"):
            notes.setdefault(test[name]["note"], []).append(label)
    return "\n".join(f"- {', '.join(labels)}: {_text(note)}" for note, labels in notes.items())


def _bias(recipe: Fields, metrics: Fields, report: Fields) -> str:
    test = metrics["test"]
    seen = metrics.get("subgroups") or {}
    unseen = [trait for trait in ("age", "sex") if trait not in seen] + ["origin", "scanner", "site"]
    points = [
        f"It knows only the images above. {', '.join(unseen[:-1]).capitalize()} and {unseen[-1]} were not looked at, "
        "and it may do worse for groups that are rare among them.",
        "It may have learned something that goes with the label but is not the disease: a mark, a border, the scanner.",
    ]
    if test["n_images"] < _SMALL_TEST:
        points.append(f"There were only {test['n_images']} test images: the intervals, not the values, are the result.")
    points += [_text(warning) for warning in test.get("warnings", [])]
    into_test = leaks_into_test(report)
    if into_test:
        patients = "patient has" if into_test == 1 else "patients have"
        points.append(
            f"**{into_test} {patients} images in the test part and in another one**, by the division that came with "
            "the data: the test result is better than it should be."
        )
    told = "notes" if "findings" in report else "warnings"  # findings stand under Data
    points += [_text(warning) for warning in report.get(told, [])]
    return "## Limits, bias and risks\n\n" + "\n".join(f"- {point}" for point in points)


def _load(recipe: Fields, metrics: Fields, report: Fields) -> str:
    return (
        "## How to load it\n\n"
        "With the folder that this card lies in (`RUN`), on the command line:\n\n"
        "```\npython -m wara predict RUN image.png --csv predictions.csv\n```\n\n"
        "or in Python:\n\n"
        "```python\n"
        "from pathlib import Path\n\n"
        "from wara.inference import Predictor\n\n"
        'predictor = Predictor.load(Path("RUN"))\n'
        'image = Path("image.png")\n'
        "[prediction] = predictor.predict([(image.name, image.read_bytes())])\n"
        "print(prediction.label, prediction.probabilities)\n"
        "```"
    )


def _basename(path: object) -> str:
    return PurePosixPath(PureWindowsPath(str(path)).name).name


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "\N{EN DASH}"


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "time not known"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
