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
