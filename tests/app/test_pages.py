"""What pages make of the backend's answers: every text as text, every state with its next step."""

import re
from typing import Any

import pytest

from app.components.html import escape
from app.components.job import render_job
from app.index import IndexPage
from app.pages import analyse, classify, data, models, train
from app.ui import render_header

HOSTILE = "<script>alert('x')</script>\"&${a}"


def job(**changes: Any) -> dict[str, Any]:
    return {
        "id": "j1", "name": HOSTILE, "dataset_id": "d1", "dataset_name": HOSTILE, "method": "wara", "preset": "quick",
        "backbone": "deit_tiny_patch16_224@6d57", "state": "running", "created": "2026-11-23T10:00:00Z",
        "phase": "training", "message": "", "warnings": [HOSTILE, HOSTILE], "error": None, "model_id": None,
        "progress": {"done": 30, "total": 120, "fraction": 0.25, "seconds_left": 90, "images_per_second": 33.4},
        "history": [],
    } | changes  # fmt: skip


def model(**changes: Any) -> dict[str, Any]:
    metric = {"value": 0.9634, "low": 0.948, "high": 0.976}
    return {
        "id": "m1", "name": HOSTILE, "dataset_name": HOSTILE, "method": "wara", "backbone": "deit@1", "seconds": 734,
        "pretrained": True, "created": "2026-11-23T10:00:00Z", "trainable_parameters": 73812,
        "metrics": {"test": {"auroc": metric, "balanced_accuracy": metric, "n_images": 44}},
    } | changes  # fmt: skip


def dataset(**changes: Any) -> dict[str, Any]:
    return {
        "id": "d1", "name": HOSTILE, "status": "ready", "images": 10, "passed_over": 1, "progress": None,
        "error": None, "classes": [{"name": HOSTILE, "count": 6}, {"name": "b", "count": 4}],
    } | changes  # fmt: skip


def report() -> dict[str, Any]:
    side = {"images": 5, "patients": 2, "classes": {HOSTILE: 3, "b": 2}}
    return {
        "patients": 4, "splits": {"train": side, "test": side}, "split_source": "given", "warnings": [HOSTILE],
        "passed_over": {"count": 1, "list": [{"file": HOSTILE, "reason": HOSTILE}]},
        "leaks": [{"patient": "ab12", "splits": ["train", "test"], "files": [HOSTILE], "file_count": 3}],
    }  # fmt: skip


def everything() -> dict[str, str]:
    choice = {"id": "d1", "cls": HOSTILE, "offset": 0}
    images = {"total": 1, "items": [{"file": HOSTILE, "label": HOSTILE, "split": "train", "url": "/x"}]}
    energy = {"classes": [HOSTILE], "wavelet": "haar", "levels": 2, "n_images": {"overall": 3}}
    spectrum = {"layers": [{"name": HOSTILE, "effective_rank": 2.0}]}
    values = {"model": "m1", "of": "update", "cls": HOSTILE, "layer": HOSTILE, "compare": ""}
    refused = {"detail": HOSTILE}
    chances = {HOSTILE: 0.9, "b": 0.1}
    items = [
        {"file": HOSTILE, "label": HOSTILE, "probabilities": chances, "error": None},
        {"file": HOSTILE, "label": None, "probabilities": None, "error": HOSTILE},
    ]
    return {
        "data set": data.render_dataset(dataset(), report(), images, choice),
        "list": data.render_list([dataset()], "d1"),
        "checking": data.render_checking(dataset(status="checking", progress={"done": 1, "total": 3})),
        "failed data": data.render_failed(dataset(status="failed", error=refused)),
        "form": train.render_form([dataset()], [{"id": HOSTILE, "name": HOSTILE, "label": HOSTILE, "available": True}]),
        "running": render_job(job()),
        "failed": render_job(job(state="failed", error=refused)),
        "done": render_job(job(state="succeeded", model_id="m1"), model()),
        "jobs": train.render_list([job(), job(id="j2", state="failed")], "j1"),
        "results": classify.render_results(items, [HOSTILE, "b"], model()),
        "picker": classify.render_picker([model()]),
        "choice": analyse.render_choice([model()], values, energy, spectrum),
        "figures": analyse.render_figures(values, {"m1": model()}, energy, spectrum, (HOSTILE, HOSTILE)),
        "models": models.render_models([model(), model(id="m2", pretrained=False)]),
        "card": models.render_card_head("m1", HOSTILE),
        "header": render_header({"device": {"name": HOSTILE}, "disk_free_mb": 5000}, [job()]),
    }


@pytest.mark.parametrize(("part", "html"), everything().items())
def test_text_from_outside_stays_text(part: str, html: str) -> None:
    assert "<script" not in html, part
    # No attribute is left open by a quote in a name: every tag has as many quotes as it opens.
    assert not [tag for tag in re.findall(r"<[a-z][^>]*>", html) if tag.count('"') % 2]
    assert escape(HOSTILE) in html


def test_an_order_sends_only_what_was_filled_in() -> None:
    values = {
        "dataset_id": "d1", "method": "lora", "backbone": "b", "preset": "quick", "name": " ", "rank": "4",
        "learning_rate": "1e-4", "epochs": "", "wavelet": "", "class_balanced": "true", "seed": "x",
    }  # fmt: skip
    assert train.read_order(values) == {
        "dataset_id": "d1",
        "method": "lora",
        "backbone": "b",
        "preset": "quick",
        "recipe": {"rank": 4, "learning_rate": 1e-4, "class_balanced": True, "seed": "x"},
    }


def test_the_running_training_is_found_without_having_been_chosen() -> None:
    jobs = [job(id="new", state="queued"), job(id="runs"), job(id="old", state="failed")]
    assert train.watched_of(jobs, None) == "runs"
    assert train.watched_of(jobs, "old") == "old"
    assert train.watched_of(jobs, "deleted") == "runs"
    assert train.watched_of([], "deleted") is None


def test_a_model_is_shown_with_interval_parameters_and_time() -> None:
    html = models.render_models([model()])
    for text in ("0.963", "[0.948, 0.976]", "73,812", "12 min", "44 test images"):
        assert text in html


def test_metrics_that_are_not_defined_are_a_dash() -> None:
    undefined = {"value": None, "low": None, "high": None, "note": "One class only."}
    metrics = {"test": {"auroc": undefined, "balanced_accuracy": undefined, "n_images": 3}}
    assert "–" in models.render_models([model(metrics=metrics)])
    assert "One class only." in render_job(job(state="succeeded"), model(metrics=metrics))


def test_a_choice_that_the_model_lacks_falls_back() -> None:
    known = {"m1": model(), "m2": model(id="m2")}
    energy = {"classes": ["a"]}
    spectrum = {"layers": [{"name": "l"}]}
    wrong = {"model": "m1", "of": "all", "cls": "z", "layer": "z", "compare": "m1"}
    settled = {"model": "m1", "of": "update", "cls": "", "layer": "", "compare": ""}
    assert analyse.settle(wrong, known["m1"], known, energy, spectrum) == settled
    right = {"model": "m1", "of": "tokens", "cls": "a", "layer": "l", "compare": "m2"}
    assert analyse.settle(right, known["m1"], known, energy, spectrum) == right


def test_the_first_page_speaks_of_this_product_alone() -> None:
    page = b'<head><meta property="og:title" content="Gradio" />\n<meta\n name="twitter:image"\n content="x" /></head>'
    changed = IndexPage(app=None, head="<i></i>").change(page)  # type: ignore[arg-type]
    assert b"Gradio" not in changed and b"twitter" not in changed
    assert changed.endswith(b"<i></i></head>") and b"<title>WaRA Studio</title>" in changed
