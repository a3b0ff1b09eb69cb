"""Models in a process of their own: the same answers as here, and a process that ends costs nobody an answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend import decoding, model_process
from backend.model_process import ModelFailed, ModelProcess
from backend.problems import RequestRefused
from backend.served_model import ServedModel
from tests.backend.support import Studio, jpeg, png, start_instead, wait_until
from wara.errors import InputError
from wara.evaluation.review import use_point
from wara.inference import Predictor
from wara.training import outputs

FILES = {"a.png": png(1), "b.png": png(2, coarse=True), "c.jpg": jpeg(3), "d.png": b"no image"}

# The process's own program without what takes seconds to import; a task of one of these names does what it says.
BROKEN = """
import os, signal, sys, time, types
from pathlib import Path
import wara.inference_apart as apart
held = types.ModuleType("wara.held_models")
places = Path(sys.argv[1])
class HeldModels:
    def answer(self, order, body):
        task = order["task"]
        if task in ("load", "KILLED", "KILLED-ONCE"):
            (places / "begun").touch()
            while not (places / "go").exists():
                time.sleep(0.01)
        if task == "KILLED" or (task == "KILLED-ONCE" and not (places / "once").exists()):
            (places / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "NONSENSE":
            os.write(sys.stdout.fileno(), b"printed")
            apart._Answers.broken.write(bytes(64))
        if task == "FAULT":
            return {"kind": "failed", "said": "somewhere"}, b""
        return {"kind": "done", "pid": os.getpid(), "drop": order.get("drop")}, b""
held.HeldModels = HeldModels
if os.environ.get("NOT-INSTALLED"):
    held = types.ModuleType("wara.held_models")
sys.modules["wara.held_models"] = held
real = apart._Answers.__init__
def init(self, file):
    real(self, file)
    apart._Answers.broken = file
apart._Answers.__init__ = init
sys.exit(apart.main())
"""


@pytest.fixture
def process() -> Iterator[ModelProcess]:
    made = ModelProcess()
    yield made
    made.close()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModelProcess]:
    start_instead(monkeypatch, model_process, BROKEN, str(tmp_path))
    made = ModelProcess()
    yield made
    made.close()


def run_of(trained: tuple[Studio, dict[str, Any]]) -> Path:
    studio, job = trained
    folder: Path = studio.http.app.state.parts.storage.folder("models", job["model_id"])
    return folder


def served(process: ModelProcess, run: Path) -> ServedModel:
    return ServedModel(process, "m", run, "", "cpu", decoding.shared().squares)


def order(task: str) -> dict[str, Any]:
    return {"task": task}


def test_answers_are_those_of_the_library(process: ModelProcess, trained: tuple[Studio, dict[str, Any]]) -> None:
    run = run_of(trained)
    model, here = served(process, run), Predictor.load(run, device="cpu")
    assert model.classes == here.classes and model.threshold == here.answers.threshold
    assert model.answer([model.read(*file) for file in FILES.items()]) == here.predict(FILES.items())
    assert model.answer([model.read("d.png", FILES["d.png"])])[0].error


def test_a_model_judges_by_its_rule_for_as_long_as_it_is_held(
    process: ModelProcess, trained: tuple[Studio, dict[str, Any]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_of(trained), run)
    model = served(process, run)
    file = model.read("a.png", FILES["a.png"])
    before = model.answer([file])
    use_point(run, "cost=1000")
    later = served(process, run)
    assert later.threshold != model.threshold
    assert model.answer([file]) == before
    pid = process.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):  # also once the process holds it anew
        with pytest.raises(RequestRefused) as refused:
            model.answer([file])
        assert (refused.value.status, refused.value.code) == (409, "model-changed")
    after = later.answer([file])
    shutil.rmtree(run)
    assert later.answer([file]) == after


def test_what_the_library_refuses_is_refused_in_its_words(
    process: ModelProcess, trained: tuple[Studio, dict[str, Any]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_of(trained), run)
    next((run / outputs.ADAPTER).glob("*.safetensors")).unlink()
    with pytest.raises(InputError) as here:
        Predictor.load(run)
    with pytest.raises(InputError) as there:
        served(process, run)
    assert (there.value.sentence(), there.value.code) == (here.value.sentence(), here.value.code)


def test_a_folder_that_was_deleted_meanwhile_is_not_found(process: ModelProcess, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused) as refused:
        served(process, tmp_path / "no run")
    assert (refused.value.status, refused.value.code) == (404, "model-not-found")


def test_a_process_that_was_killed_meanwhile_is_replaced(
    process: ModelProcess, trained: tuple[Studio, dict[str, Any]]
) -> None:
    model = served(process, run_of(trained))
    file = model.read("a.png", FILES["a.png"])
    before, first = model.answer([file]), process.pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert model.answer([file]) == before
    assert process.pid() not in (first, None)


def ended_among(broken: ModelProcess, places: Path, task: str) -> list[Future[Any]]:
    """Have an order that ends the process wait in it until three others stand behind it; return all four."""
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(broken.ask, order(task))]
        wait_until(lambda: (places / "begun").exists())
        asked += [pool.submit(broken.ask, order("QUICK")) for _ in range(3)]
        wait_until(lambda: broken._process is not None and len(broken._process._asked) == 4)
        (places / "go").touch()
    return asked


def test_an_order_over_which_the_process_ends_is_tried_once_more_and_so_are_those_behind_it(
    broken: ModelProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert [asked.result()[0]["kind"] for asked in ended_among(broken, tmp_path, "KILLED-ONCE")] == ["done"] * 4
    assert "ended with -9; 4 orders were under way" in caplog.text


def test_an_order_that_always_ends_the_process_is_refused_and_costs_the_others_nothing(
    broken: ModelProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed, *others = ended_among(broken, tmp_path, "KILLED")
    with pytest.raises(RequestRefused) as refused:
        killed.result()
    assert (refused.value.status, refused.value.code) == (503, "model-ended")
    assert [other.result()[0]["kind"] for other in others] == ["done"] * 3
    assert caplog.text.count("ended with -9") == 2
    assert broken.ask(order("QUICK"))[0]["kind"] == "done"


def test_an_error_that_nobody_foresaw_says_where_it_was_and_ends_nothing(broken: ModelProcess) -> None:
    pid = broken.ask(order("QUICK"))[0]["pid"]
    with pytest.raises(ModelFailed, match="somewhere"):
        broken.ask(order("FAULT"))
    assert broken.ask(order("QUICK"))[0]["pid"] == pid


def test_an_order_that_cannot_be_written_leaves_no_other_with_its_answer(broken: ModelProcess) -> None:
    with pytest.raises(TypeError):
        broken.ask(order("QUICK") | {"names": object()})
    assert broken.ask(order("QUICK"))[0]["kind"] == "done"


def test_a_process_that_writes_what_is_no_answer_is_replaced(broken: ModelProcess) -> None:
    pid = broken.ask(order("QUICK"))[0]["pid"]
    with pytest.raises(RequestRefused):
        broken.ask(order("NONSENSE"))
    assert broken.ask(order("QUICK"))[0]["pid"] != pid


def test_a_process_that_cannot_start_says_why_in_the_log(
    broken: ModelProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOT-INSTALLED", "1")
    with pytest.raises(RequestRefused):
        broken.ask(order("QUICK"))
    assert "cannot start: cannot import name 'HeldModels'" in caplog.text


def test_while_a_model_is_loaded_others_answer(broken: ModelProcess, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(broken.ask, order("load"))
        wait_until(lambda: (tmp_path / "begun").exists())
        try:
            assert pool.submit(broken.ask, order("QUICK")).result(60)[0]["kind"] == "done"
            assert not loading.done()
        finally:
            (tmp_path / "go").touch()
        loading.result(60)


def test_what_is_dropped_goes_with_the_next_order_and_once(broken: ModelProcess) -> None:
    broken.drop("a")
    broken.drop("b")
    assert [broken.ask(order("QUICK"))[0]["drop"] for _ in range(2)] == [["a", "b"], []]


def test_it_rests_when_nobody_asks_and_starts_again(broken: ModelProcess) -> None:
    resting = ModelProcess(rest_s=0.2)
    pid = resting.ask(order("QUICK"))[0]["pid"]
    wait_until(lambda: resting.pid() is None)
    wait_until(lambda: not psutil.pid_exists(pid))
    again = resting.ask(order("QUICK"))[0]["pid"]
    assert again != pid
    resting.close()


def test_it_ends_with_its_server(tmp_path: Path) -> None:
    program = (
        "import os, sys; from backend.model_process import ModelProcess; made = ModelProcess(); made.start();"
        "print(made.pid(), flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    child = int(server.stdout.readline())
    server.kill()
    server.communicate()
    wait_until(lambda: not psutil.pid_exists(child), 60)


def test_orders_of_many_threads_each_get_their_own_answer(broken: ModelProcess) -> None:
    pids: set[int] = set()
    found = threading.Lock()

    def ask() -> None:
        pid = broken.ask(order("QUICK"), [bytes(1 << 21)])[0]["pid"]
        with found:
            pids.add(pid)

    with ThreadPoolExecutor(6) as pool:
        for asked in [pool.submit(ask) for _ in range(6)]:
            asked.result(30)
    assert len(pids) == 1
