"""What pages make of the backend's answers: every text as text, every state with its next step."""

import json
import re
from typing import Any

import pytest

from app.components import dataset as ready
from app.components import job_list
from app.components.arrival import render_receiving
from app.components.classified import render_earlier, render_results
from app.components.html import escape
from app.components.job import render_job
from app.index import IndexPage
from app.pages import analyse, classify, data, models, train
from app.ui import render_header
from tests.app.support import ALONE

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
    image = {"file": HOSTILE, "label": HOSTILE, "split": "test", "url": "/x"}
    group = {"id": "ab12", "note": HOSTILE, "images": [image], "image_count": 3}
    finding = {
        "id": HOSTILE, "kind": HOSTILE, "severity": HOSTILE, "sentence": HOSTILE, "groups": [group] * 3,
        "group_count": 9, "fixes": [{"fix": "move", "label": HOSTILE, "sentence": HOSTILE, "images": 4}],
    }  # fmt: skip
    return {
        "patients": 4, "splits": {"train": side, "test": side}, "split_source": "given", "notes": [HOSTILE],
        "images": 10, "classes": [{"name": HOSTILE, "count": 6}, {"name": "b", "count": 4}],
        "passed_over": {"count": 1, "list": [{"file": HOSTILE, "reason": HOSTILE}]}, "findings": [finding],
        "decisions": [{"finding": HOSTILE, "fix": HOSTILE, "images": 4, "when": HOSTILE, "rules": 1}],
    }  # fmt: skip


def row(**changes: Any) -> dict[str, Any]:
    chances = {"a": 0.6, "b": 0.4}
    return {"number": 0, "file": "x.png", "label": "a", "probabilities": chances, "error": None} | changes


def batch(**changes: Any) -> dict[str, Any]:
    return {
        "id": "b1", "model_id": "m1", "model_name": HOSTILE, "classes": ["a", "b"], "state": "done", "error": None,
        "created": "2026-11-23T10:00:00Z", "expires": "2026-11-30T10:00:00Z", "total": 2, "done": 2, "unreadable": 1,
        "labels": {"a": 1, "b": 0}, "warnings": 1, "reasons": [{"reason": HOSTILE, "count": 1}], "several": True,
    } | changes  # fmt: skip


def everything() -> dict[str, str]:
    choice = {"id": "d1", "cls": HOSTILE, "offset": 0}
    images = {"total": 1, "items": [{"file": HOSTILE, "label": HOSTILE, "split": "train", "url": "/x"}]}
    energy = {"classes": [HOSTILE], "wavelet": "haar", "levels": 2, "n_images": {"overall": 3}}
    spectrum = {"layers": [{"name": HOSTILE, "effective_rank": 2.0}]}
    values = {"model": "m1", "of": "update", "cls": HOSTILE, "layer": HOSTILE, "compare": ""}
    refused = {"detail": HOSTILE}
    items = [
        row(file=HOSTILE, label=HOSTILE, probabilities={HOSTILE: 0.9, "b": 0.1}),
        row(file=HOSTILE, label=None, probabilities=None, error=HOSTILE),
    ]
    answers = batch(classes=[HOSTILE, "b"], labels={HOSTILE: 1, "b": 0})
    patient = {"patient": HOSTILE, "images": 2, "label": HOSTILE, "probabilities": {HOSTILE: 0.9}, "warnings": 0}
    patients = {"total": 1, "rule": HOSTILE, "items": [patient]}
    return {
        "data set": ready.render_dataset(dataset(), report(), images, choice),
        "list": data.render_list([dataset()], "d1"),
        "checking": data.render_checking(dataset(status="checking", progress={"done": 1, "total": 3})),
        "receiving": render_receiving(
            dataset(status="receiving"),
            {"files": 3, "bytes": 5_000_000, "refused": [{"file": HOSTILE, "reason": HOSTILE}], "refused_count": 1},
        ),
        "failed data": data.render_failed(dataset(status="failed", error=refused)),
        "form": train.render_form(
            [dataset()], [{"id": HOSTILE, "name": HOSTILE, "label": HOSTILE, "available": True, "source": "hub"}]
        ),
        "running": render_job(job()),
        "failed": render_job(job(state="failed", error=refused)),
        "done": render_job(job(state="succeeded", model_id="m1"), model()),
        "jobs": job_list.render_list([job(), job(id="j2", state="failed")], "j1"),
        "results": render_results(answers, items, model(), patients=patients),
        "broken off": render_results(batch(state="failed", error=refused), [], model()),
        "earlier": render_earlier([batch()]),
        "here": classify.render_here([dataset()]),
        "picker": classify.render_picker([model()]),
        "choice": analyse.render_choice([model()], values, energy, spectrum),
        "figures": analyse.render_figures(values, {"m1": model()}, energy, spectrum, (HOSTILE, HOSTILE)),
        "models": models.render_models([model(), model(id="m2", pretrained=False)], ALONE),
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


@pytest.mark.parametrize("typed", ["inf", "-inf", "nan", "1e999", "Infinity", "1" * 5000])
def test_a_number_that_json_has_not_is_sent_as_text(typed: str) -> None:
    recipe = train.read_order({"learning_rate": f" {typed} ", "rank": "1e3", "seed": "7"})["recipe"]
    assert recipe == {"learning_rate": typed, "rank": 1000.0, "seed": 7}
    json.dumps(recipe, allow_nan=False)


def test_a_network_of_the_hub_can_be_named_where_the_server_may_ask_the_hub() -> None:
    file = {"id": "f", "name": "f", "available": True, "pretrained": True, "source": "file"}
    assert train.HUB_NAME not in train.render_form([dataset()], [file])
    assert f'name="{train.HUB_NAME}"' in train.render_form([dataset()], [file, file | {"id": "h", "source": "hub"}])


def test_every_option_says_in_plain_words_what_it_does() -> None:
    file = {"id": "f", "name": "f", "available": True, "pretrained": True, "source": "hub"}
    pages = [
        data.UPLOAD,
        train.render_form([dataset()], [file]),
        classify.render_picker([model()]),
        everything()["choice"],
    ]
    for html in pages:
        hints = {ident for ident, text in re.findall(r'class="hint" id="([^"]+)">([^<]+)', html) if len(text) > 10}
        fields = re.findall(r'<(?:select|input)\b(?=[^>]*\bid=)(?![^>]*type="file")[^>]*>', html)
        assert fields
        for field in fields:
            described = re.search(r'aria-describedby="([^"]+)"', field)
            assert described and described[1] in hints, field


def test_options_of_dicom_and_of_two_classes_belong_to_the_data_sets_that_have_them() -> None:
    dicom = dataset(id="d2", formats=["DICOM"], classes=[{"name": name, "count": 2} for name in "abc"])
    html = train.render_form([dataset(), dicom], [])
    frames = re.search(r'data-sets="([^"]*)"><legend>DICOM', html)
    point = re.search(r'data-sets="([^"]*)"><div class="field"><label for="f-operating_point"', html)
    assert frames and frames[1] == "d2" and point and point[1] == "d1"
    alone = train.render_form([dataset()], [])
    assert 'name="frames"' not in alone and 'name="coverage"' in alone and 'name="patient_rule"' in alone
    values = {"frames": "all", "window": "2", "operating_point": "cost=5", "coverage": "0.95", "patient_rule": "worst"}
    assert train.read_order(values)["recipe"] == values | {"window": 2, "coverage": 0.95}


def test_no_two_fields_of_the_document_have_one_id() -> None:
    parts = everything()
    fields = parts["form"] + parts["picker"] + parts["choice"] + parts["here"] + data.UPLOAD
    idents = re.findall(r'\bid="([^"]+)"', fields)
    assert len(idents) == len(set(idents))


def test_a_network_named_by_hand_goes_before_the_one_of_the_list() -> None:
    assert train.read_order({"backbone": "b", train.HUB_NAME: " vit_small "}) == {"backbone": "vit_small", "recipe": {}}
    assert train.read_order({"backbone": "b", train.HUB_NAME: " "}) == {"backbone": "b", "recipe": {}}


def test_a_training_that_went_astray_shows_its_error_and_the_passes_before() -> None:
    rows = [
        {"epoch": 1, "epochs": 5, "train_loss": 0.7, "val_loss": None, "val_auroc": 0.61, "seconds": 3.0},
        {"epoch": 2, "epochs": 5, "train_loss": None, "val_loss": None, "val_auroc": None, "seconds": None},
    ]
    refused = {"detail": "The loss is no number any more. Use a smaller step."}
    for history in (rows, rows[1:]):
        html = render_job(job(state="failed", error=refused, history=history))
        assert refused["detail"] in html and html.count('class="chart"') == 2
        assert "None" not in html and "nan" not in html
    assert "training 0.700" in render_job(job(history=rows))


def test_an_answer_without_numbers_is_dashes() -> None:
    html = render_results(batch(), [row(label=None, probabilities={"a": None, "b": None})], model())
    assert html.count("<b>–</b>") == 2 and "None" not in html
    assert render_results(batch(), [row(probabilities=None)], model()).count("<b>–</b>") == 2


def test_a_result_says_what_speaks_against_it() -> None:
    doubtful = row(classes=["a", "<b>"], warning="Unlike the training images.")
    html = render_results(batch(), [doubtful], model())
    assert "Cannot be ruled out: a, &lt;b&gt;." in html and "Unlike the training images." in html
    sure = render_results(batch(), [row(classes=["a"], warning=None)], model())
    assert "ruled out" not in sure and "Unlike the training images." not in sure


def test_a_batch_is_summed_up_and_shown_a_page_at_a_time() -> None:
    many = batch(total=120, done=120, labels={"a": 100, "b": 19}, several=False)
    html = render_results(many, [row(number=number) for number in range(50)], model())
    assert "119 images classified, 1 could not be read" in html
    assert "Show 50 more of 120" in html and 'data-shown="50"' in html
    assert 'href="api/v1/batches/b1.csv"' in html and "patients.csv" not in html
    assert 'href="api/v1/batches/b1/patients.csv"' in render_results(batch(), [], model())
    one = batch(total=1, done=1, unreadable=0, several=False)
    assert "classify-sums" not in render_results(one, [row()], model())


def test_a_batch_that_broke_off_says_how_it_goes_on_and_one_under_way_does_not() -> None:
    open_batch = batch(state="receiving", total=9)
    assert "What is done is not sent again" in render_results(open_batch, [row()], model())
    moving = render_results(open_batch, [row()], model(), moving=True)
    assert "not sent again" not in moving and "2 of 9 images done" in moving and 'data-part="ask"' not in moving


def test_an_image_is_explained_only_where_the_browser_holds_it() -> None:
    assert 'data-part="ask"' in render_results(batch(), [row()], model())
    assert 'data-part="ask"' not in render_results(batch(), [row()], model(), local=False)
    assert 'data-part="ask"' not in render_results(batch(), [row()], None)


def test_the_demo_is_offered_and_says_what_it_does_while_it_is_drawn() -> None:
    assert 'data-action="demo"' in data.UPLOAD and "Try the demo" in data.UPLOAD
    waiting = data.render_drawing()
    assert 'role="status"' in waiting and "<progress" in waiting and "300 synthetic images" in waiting


def test_images_of_the_demo_are_offered_only_where_a_model_knows_their_classes() -> None:
    demo = {"classes": ["a", "b"], "images": [{"file": "x.png", "url": f"/x{HOSTILE}"}, {"file": "y.png", "url": "/y"}]}
    assert classify.render_demo([model(classes=["a", "c"])], demo) == ""
    offered = classify.render_demo([model(classes=["a", "c"]), model(classes=["b", "a"])], demo)
    assert f'data-demo="{escape("/x" + HOSTILE)} /y"' in offered and "2 drawn images" in offered


def test_classes_without_images_are_counted_as_none() -> None:
    html = ready.render_classes([{"name": "a", "count": 0}], {"splits": {}})
    assert "<b>0</b>" in html


def happening(code: str, text: str) -> dict[str, Any]:
    return {"at": "2026-11-23T10:00:00Z", "state": "running", "code": code, "text": text}


def test_a_training_that_waits_says_its_place_and_can_be_started_next() -> None:
    html = render_job(job(state="queued", position=3, movable=True, starts_in=None, progress=None))
    assert "Place 3 in the queue" in html and 'data-action="first"' in html and 'data-action="pause"' in html
    html = render_job(job(state="queued", position=1, starts_in=300.0, progress=None))
    assert "Next in the queue" in html and "starts in about 5 min" in html and 'data-action="first"' not in html
    listed = job_list.render_list([job(id="a"), job(id="b", state="queued", position=2, movable=True)], "a")
    assert "place&nbsp;2" in listed and 'data-action="up"' in listed and 'data-action="delete"' not in listed


def test_a_paused_training_says_why_and_can_go_on_or_be_stopped() -> None:
    html = render_job(job(state="paused", pause_reason="person", progress=None))
    assert "Go on" in html and 'data-action="cancel"' in html and "is kept" in html
    full = {"remedy": "Delete data sets " + HOSTILE, "detail": ""}
    html = render_job(job(state="paused", pause_reason="disk-full", error=full))
    assert "the disk is full" in html and "goes on by itself" in html and "<script" not in html
    assert "Pausing: it finishes its step first" in render_job(job(message="Pausing: it finishes its step first"))


def test_what_happened_is_told_and_open_when_something_unusual_did() -> None:
    usual = [happening("queued", "Put into the queue"), happening("started", "Started on " + HOSTILE)]
    html = render_job(job(happenings=usual))
    assert "<details class=\"fold story\" data-fold=\"j1\">" in html
    assert "What happened" in html and "<script" not in html
    html = render_job(job(happenings=[*usual, happening("interrupted", "It was interrupted")]))
    assert "<details class=\"fold story\" data-fold=\"j1\" open>" in html and "It was interrupted." in html


def test_the_running_training_is_found_without_having_been_chosen() -> None:
    jobs = [job(id="new", state="queued"), job(id="runs"), job(id="old", state="failed")]
    assert job_list.watched_of(jobs, None) == "runs"
    assert job_list.watched_of(jobs, "old") == "old"
    assert job_list.watched_of(jobs, "deleted") == "runs"
    assert job_list.watched_of([], "deleted") is None


def test_a_model_is_shown_with_interval_parameters_and_time() -> None:
    html = models.render_models([model()], ALONE)
    for text in ("0.963", "[0.948, 0.976]", "73,812", "12 min", "44 test images"):
        assert text in html


def test_metrics_that_are_not_defined_are_a_dash() -> None:
    undefined = {"value": None, "low": None, "high": None, "note": "One class only."}
    metrics = {"test": {"auroc": undefined, "balanced_accuracy": undefined, "n_images": 3}}
    assert "–" in models.render_models([model(metrics=metrics)], ALONE)
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
