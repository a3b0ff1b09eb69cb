"""Threads wait briefly, unless the environment says how they are to wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASKED = "from wara.waiting import wait_briefly; wait_briefly(); import os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("said", "turns"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["nothing", "turns", "policy"],
)
def test_the_environment_has_the_last_word(said: dict[str, str], turns: str) -> None:
    kept = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", ASKED], env=kept | said, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == turns


@pytest.mark.parametrize("program", ["backend.__main__", "backend.jobs.worker"])
def test_programs_settle_it_before_torch_is_there(program: str) -> None:
    code = f"import sys, {program}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("said", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "5"}, "5")])
def test_numpy_computes_in_one_thread_unless_the_environment_says_otherwise(said: dict[str, str], threads: str) -> None:
    kept = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    code = "from wara.waiting import wait_briefly; wait_briefly(); import os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    done = subprocess.run([sys.executable, "-c", code], env=kept | said, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == threads


@pytest.mark.parametrize("program", ["backend", "wara"])
def test_commands_settle_it_before_numpy_is_there(program: str) -> None:
    code = (
        "import runpy, sys, wara.waiting as w\n"
        "w.wait_briefly = lambda: print('numpy' in sys.modules, flush=True)\n"
        f"sys.argv = ['{program}', '--no-such-option']\n"
        f"runpy.run_module('{program}', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "False"
