"""The documents' examples run as they stand, and what they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHOD = ROOT / "docs" / "method.md"


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", METHOD.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "example.py").write_text(program, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("document", [METHOD, ROOT / "README.md"], ids=lambda path: path.name)
def test_tests_and_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))

    assert [name for name in re.findall(r"`(test_[a-z_]+)`", text) if f"def {name}(" not in tests] == []
    named = re.findall(r"`((?:wara|tests|docs|benchmarks|backend|app)/[\w/*.]+\.\w+)`", text)
    assert [path for path in named if not list(ROOT.glob(path))] == []
