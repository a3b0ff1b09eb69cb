"""A model for other programs over HTTP: what is sent, that it answers like the app, what is refused, what is left."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from backend.exports import make_export
from backend.problems import RequestRefused
from tests.backend.support import API, Studio, as_form, assert_problem, png


@pytest.fixture
def http(trained: tuple[Studio, dict[str, Any]]) -> Any:
    return trained[0].http


@pytest.fixture
def model(trained: tuple[Studio, dict[str, Any]]) -> str:
    return f"{API}/models/{trained[1]['model_id']}"


def scratch(http: Any) -> list[Any]:
    return list((http.app.state.parts.settings.data_dir / "scratch").iterdir())


def probabilities(http: Any, model: str, contents: list[bytes]) -> list[dict[str, float]]:
    sent = as_form({f"{i}.png": content for i, content in enumerate(contents)})
    return [item["probabilities"] for item in http.post(f"{model}/predict", files=sent).json()["items"]]


def test_an_onnx_export_answers_as_the_app_by_what_it_says_of_itself(http: Any, model: str) -> None:
    contents = [png(1000), png(1001, coarse=True)]
    app = probabilities(http, model, contents)
    with ThreadPoolExecutor(1) as pool:
        export = pool.submit(http.get, f"{model}/export", params={"format": "onnx"})
        # Tracing inside the server's own process would break the predictions of its other threads.
        asked = 0
        while not export.done() and asked < 40:
            assert probabilities(http, model, contents) == app
            asked += 1
        answer = export.result()
    assert asked > 0
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].endswith("-onnx.zip")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert scratch(http) == []
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {"model.onnx", "model.onnx.json", "card.md"}
    how = json.loads(files["model.onnx.json"])

    squares = [Image.open(io.BytesIO(content)).convert("RGB").resize((how["preprocessing"]["size"],) * 2,
               Image.Resampling.BICUBIC, reducing_gap=3.0) for content in contents]  # fmt: skip
    pixels = np.stack([np.asarray(square, dtype=np.float64) for square in squares]) / 255
    batch = ((pixels - how["preprocessing"]["mean"]) / how["preprocessing"]["std"]).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(files["model.onnx"])
    logits = session.run(None, {how["input"]["name"]: batch.astype(np.float32)})[0] / how["temperature"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    expected = [[shown[name] for name in how["classes"]] for shown in app]
    # The app computes in bfloat16 where that is fast; tests/wara/test_export.py compares both in float32.
    np.testing.assert_allclose(shares, expected, atol=0.03)


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('no JSON')"], ids=["dies", "babbles"])
def test_an_export_that_fails_is_said_and_not_a_500(program: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    command = (sys.executable, "-c", program)
    with pytest.raises(RequestRefused, match="could not be exported") as refused:
        make_export(tmp_path / "run", "merged", tmp_path, backbone="embedded", command=command)
    assert refused.value.status == 503


def test_a_peft_export_holds_the_adapter(http: Any, model: str) -> None:
    answer = http.get(f"{model}/export", params={"format": "peft"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = {"adapter_config.json", "adapter_model.safetensors", "readout.safetensors"}
        assert set(archive.namelist()) == names


def test_a_merge_that_would_not_be_exact_is_refused_with_the_reason(http: Any, model: str) -> None:
    problem = assert_problem(http.get(f"{model}/export", params={"format": "merged"}), 422, "export-not-mergeable")
    assert "readout" in problem["seen"] and "as onnx" in problem["remedy"]
    assert scratch(http) == []


def test_another_format_and_another_model_are_refused(http: Any, model: str) -> None:
    problem = assert_problem(http.get(f"{model}/export", params={"format": "tflite"}), 422, "field-invalid")
    assert "tflite" in problem["detail"]
    assert_problem(http.get(f"{API}/models/none/export"), 404, "model-not-found")
