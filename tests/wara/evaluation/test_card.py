"""The model card: what it must say, and what it must never hold."""

import copy

import numpy as np
import pytest

from tests.wara.evaluation.support import answered
from wara.data.items import Catalogue, Item, PassedOver
from wara.data.report import data_report
from wara.evaluation import evaluate
from wara.evaluation.assessment import assess
from wara.evaluation.card import interval, render_card
from wara.evaluation.novelty import fit_novelty

CLASSES = ["NORMAL", "PNEUMONIA"]
SIDES = ["train"] * 20 + ["val"] * 10 + ["test"] * 10


def report(patients=True, leak=False, given=False):
    items = []
    for i, side in enumerate(SIDES):
        patient = f"secret{i // 2:06d}" if patients else None
        if leak and i == 39:
            patient = "secret000000"
        items.append(Item(f"Doe_John/img{i}.png", CLASSES[i % 2], patient, side if given else None))
    passed_over = (PassedOver("Roe_Jane/notes.txt", "it is no image"),)
    catalogue = Catalogue(tuple(items), tuple(CLASSES), passed_over, "class-folders", "f00dcafe" * 8)
    return data_report(catalogue, SIDES)


RECIPE = {
    "format": 1, "method": "wara", "preset": "quick", "target": "qkv", "rank": 8,
    "wavelet": "haar", "levels": None, "mode": "symmetric",
    "gains": "subband", "activation": "none", "learning_rate": 0.001, "weight_decay": 0.01, "batch_size": 32, "seed": 7,
    "class_balanced": False, "backbone_spec": "deit_tiny_patch16_224:/home/someone/weights/model.safetensors",
    "backbone": {"name": "deit_tiny_patch16_224", "source": "file", "file": "/home/someone/weights/model.safetensors",
                 "sha256": "ab" * 32, "pretrained": True},
    "classes": CLASSES, "image": {"size": 224, "mean": [0.5] * 3, "std": [0.5] * 3, "fit": "pad"},
    "packages": {"torch": "2.14.1"}, "device": "CPU",
    "data": {"fingerprint": "f00dcafe" * 8, "images": 40, "classes": {"NORMAL": 20, "PNEUMONIA": 20}},
}  # fmt: skip


def metrics(names=CLASSES, n=60):
    rng = np.random.default_rng(0)
    targets = np.arange(n) % len(names)
    probabilities = np.exp(rng.normal(size=(n, len(names))) + 2 * np.eye(len(names))[targets])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    part = evaluate(probabilities, targets, names, [f"secret{i // 2}" for i in range(n)], replicates=100)
    return {
        "test": part, "val": part, "trainable_parameters": 73812, "adapter_parameters": 73426, "seconds": 733.2,
        "images_per_second": 40.0, "peak_memory_mb": 900.0, "epochs_run": 5, "best_epoch": 3,
    }  # fmt: skip


def test_card_holds_every_section_with_its_figures():
    measured = metrics()
    card = render_card(RECIPE, measured, report())
    for heading in (
        "Intended use",
        "Out of scope",
        "Data",
        "Findings of the data report",
        "Split",
        "Training procedure",
        "Versions",
        "Results",
        "Classes",
        "Limits, bias and risks",
        "How to load it",
    ):
        assert f"# {heading}\n" in card
    assert "A research tool, not a medical device" in card
    area = measured["test"]["auroc"]
    assert f"{area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]" in card
    assert "bootstrap over 30 patients" in card
    assert "73,812" in card and "12 min on CPU" in card and "pass 3 was kept" in card
    assert "40 images of 20 patients" in card
    assert "| training | 20 | 10 | 10 | 10 |" in card
    assert "python -m wara predict RUN" in card
    assert "| adapted layers | queries, keys and values of attention |" in card
    behind = render_card(RECIPE | {"target": "proj"}, measured, report())
    assert "| adapted layers | projection behind attention |" in behind
    earlier = {name: value for name, value in RECIPE.items() if name != "target"}
    assert render_card(earlier, measured, report()) == card
    assert "second answer" not in card
    for readout, where in (("subbands", "with the head's |"), ("auto", "where the backbone allows it |")):
        read = render_card(RECIPE | {"readout": readout}, measured, report())
        [row] = [line for line in read.splitlines() if line.startswith("| second answer |")]
        assert row.endswith(where)


@pytest.mark.parametrize("options", [{}, {"leak": True, "given": True}], ids=["made", "leaking"])
def test_card_names_no_patient_no_file_and_no_path(options):
    data = report(**options)
    card = render_card(RECIPE, metrics(), data)
    for private in ("secret", "Doe", "Roe", "img", "/home", "someone", "notes.txt"):
        assert private not in card
    assert "`model.safetensors`" in card


def test_card_says_when_the_given_split_leaks():
    card = render_card(RECIPE, metrics(), report(leak=True, given=True))
    assert "1 patient has images in the test part and in another one" in card
    assert "came with the data" in card
    assert "in another one" not in render_card(RECIPE, metrics(), report())


def test_card_tells_what_the_data_report_found_and_what_was_decided():
    data = report(leak=True, given=True)
    data["decisions"] = [{"finding": "copies-within", "fix": "drop", "when": "2026-01-01", "rules": 1, "images": 2}]
    card = render_card(RECIPE, metrics(), data)
    found = card[card.index("### Findings") : card.index("### Split")]
    assert "- **Serious.** 1 patient has images in the test part and in another one." in found
    assert "- **Warning.** Too few for a dependable interval" in found
    assert "2 images left out (copies-within)" in found and "after the decisions below" in found
    assert "1 file was not used and was passed over (1: it is no image)." in card


def test_card_says_so_where_nothing_was_found_and_is_silent_where_nobody_looked():
    data = report() | {"findings": []}
    assert "Nothing was found: no patient" in render_card(RECIPE, metrics(), data)
    del data["findings"]  # a run of an earlier version
    assert "Findings of the data report" not in render_card(RECIPE, metrics(), data)


def test_reasons_for_files_that_were_not_used_quote_no_name():
    data = report()
    data["passed_over"] |= {"count": 5, "reasons": {
        "not an image of a kind that is read (.doe_john)": 2, "not an image of a kind that is read (.txt)": 1,
        "its label 'Roe' is left out": 2,
    }}  # fmt: skip
    card = render_card(RECIPE, metrics(), data)
    assert "(3: not an image of a kind that is read; 2: its label is left out)" in card
    assert "doe" not in card and "Roe" not in card


def test_tables_of_many_classes_are_turned_to_fit_the_page():
    names = [f"class {i}" for i in range(12)]
    data = report()
    for side in data["splits"].values():
        side["classes"] = dict.fromkeys(names, 3)
    card = render_card(RECIPE | {"classes": names}, metrics(names), data)
    assert "| part | training | validation | test |" in card and "| class 11 | 3 | 3 | 3 |" in card


def test_card_says_when_patients_are_not_known():
    card = render_card(RECIPE, metrics(), report(patients=False))
    assert "patients not known" in card and "may then be too good" in card


def test_card_of_an_untrained_backbone_says_so():
    recipe = copy.deepcopy(RECIPE)
    recipe["backbone"] = {"name": "vit_tiny", "source": "untrained", "file": None, "sha256": None, "pretrained": False}
    assert "The backbone was not pretrained" in render_card(recipe, metrics(), report())
    assert "not pretrained" not in render_card(RECIPE, metrics(), report())


@pytest.mark.parametrize(
    ("method", "present", "absent"),
    [("lora", ["LoRA", "| rank | 8 |"], ["wavelet |"]), ("linear-probe", ["linear probe"], ["| rank", "wavelet |"])],
)
def test_card_shows_the_options_that_the_method_has(method, present, absent):
    card = render_card(RECIPE | {"method": method}, metrics(), report())
    assert all(part in card for part in present)
    assert not any(part in card for part in absent)


def test_names_of_classes_cannot_break_the_tables():
    names = ["a|b", "<script>alert(1)</script>"]
    data = report()
    data["classes"] = [{"name": name, "count": 20, "patients": 10} for name in names]
    for side in data["splits"].values():
        side["classes"] = dict.fromkeys(names, 10)
    card = render_card(RECIPE | {"classes": names}, metrics(names), data)
    assert "<script>" not in card and r"a\|b" in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    widths = [line.replace(r"\|", "").count("|") for line in tables]
    rules = [i for i, line in enumerate(tables) if set(line) <= {"|", " ", "-"} and "---" in line]
    assert len(rules) == 5
    for rule in rules:
        assert widths[rule - 1] == widths[rule] == widths[rule + 1]


def test_small_test_sets_are_called_small():
    assert "only 60 test images" in render_card(RECIPE, metrics(n=60), report())
    assert "test images: the intervals" not in render_card(RECIPE, metrics(n=200), report())


def test_interval_as_text():
    assert interval({"value": 0.96312, "low": 0.948, "high": 0.976}) == "0.963 [0.948, 0.976]"
    assert interval({"value": 0.5, "low": None, "high": None}) == "0.500 (no interval)"
    assert interval({"value": None}) == "–"
    assert interval({}) == "–"


def assessed(**options):
    """Metrics of a run with everything that can be known of one."""
    sides, answers = answered(per_patient=4, **options)
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(240, 5)) + 3 for _ in range(3)]
    novelty = fit_novelty(rows[0], sides["val"].targets, rows[1])
    found = assess(sides, CLASSES, answers, novelty, rows[2], replicates=100)
    return metrics() | found


def test_card_says_what_is_known_of_the_answers():
    measured = assessed(criterion="sensitivity=0.9")
    card = render_card(RECIPE, measured, report())
    point, sets = measured["operating_point"], measured["prediction_sets"]
    assert f"called PNEUMONIA from a probability of {point['threshold']:.3f} on" in card
    assert f"sensitivity {interval(point['test']['sensitivity'])}" in card
    assert f"temperature of {measured['calibration']['temperature']:.2f}" in card and "bins of equal mass" in card
    assert f"{100 * sets['coverage']['value']:.0f} % [" in card and f"{sets['mean_size']:.2f} classes" in card
    assert "By patient (60 test patients, judged by the mean" in card
    assert "5% were to be expected" in card and "with a warning where the image is unlike" in card
    assert "Origin, scanner and site were not looked at" in card
    assert "| F | 120 |" in card and "Not known for 120 images." in card
    results, bias = card.index("## Results"), card.index("## Limits")
    parts = ("Patients", "Operating point", "Calibration", "Prediction sets", "Subgroups")
    assert all(results < card.index(words) < bias for words in (*(f"### {part}" for part in parts), "| Sex |"))
    for private in ("secret", "p1", ".png |"):
        assert private not in card


def test_card_of_few_images_says_what_could_not_be_done():
    measured = assessed()
    measured["calibration"] |= {"note": "There are only 9 validation images, too few to calibrate on."}
    measured["prediction_sets"] = measured["prediction_sets"] | {"note": "Every set holds all classes."}
    measured["test"] = measured["test"] | {"warnings": ["There are only 3 patients of NORMAL: unreliable."]}
    card = render_card(RECIPE, measured, report())
    assert "the network's own. There are only 9 validation images" in card and "Every set holds all classes" in card
    assert "only 3 patients of NORMAL" in card[card.index("## Limits") :]
