"""Devices are found in a process of their own, once, and a search that fails leaves the processor."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path

import pytest

from backend.devices import Device, Devices, find_devices, processor
from tests.backend.support import API, Studio, wait_until


def looker(folder: Path, script: str) -> tuple[str, ...]:
    """A command that runs a script and leaves a mark for each time that it ran."""
    return (sys.executable, "-c", f"open({str(folder / 'ran')!r}, 'a').write('x')\n{script}")


def test_the_real_search_finds_what_torch_sees() -> None:
    assert Devices("cpu").found() == find_devices("cpu") == (processor(),)
    assert processor().name


def test_the_search_runs_once_however_many_ask(tmp_path: Path) -> None:
    found = [Device("cuda:0", "cuda", "A card"), Device("cuda:1", "cuda", "Another")]
    script = f"import sys; print({json.dumps([vars(device) for device in found])!r}); assert sys.argv[1] == 'auto'"
    devices = Devices("auto", looker(tmp_path, script))
    answers: list[tuple[Device, ...]] = []
    threads = [threading.Thread(target=lambda: answers.append(devices.found())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [tuple(found)] * 4
    assert devices.known() == tuple(found)
    assert (tmp_path / "ran").read_text() == "x"


def test_while_it_looks_nothing_is_known_and_nobody_waits(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('[]')"
    devices = Devices("auto", looker(tmp_path, script))

    assert devices.known() is None
    gate.touch()
    assert devices.found() == (processor(),)  # none found: the processor is always there


@pytest.mark.parametrize("script", ["raise SystemExit('no driver')", "print('no JSON')", "print('[{}]')"])
def test_a_search_that_fails_leaves_the_processor_and_a_line_in_the_log(
    tmp_path: Path, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "backend.devices"):
        assert Devices("auto", looker(tmp_path, script)).found() == (processor(),)
    assert "Looking for devices failed" in caplog.text


def test_the_server_answers_before_it_knows_its_device_and_says_it_once_it_does(studio: Studio) -> None:
    health = wait_until(lambda: (found := studio.http.get(f"{API}/health").json())["device"] and found)
    assert health["device"]["type"] == "cpu" and health["device"]["name"]
