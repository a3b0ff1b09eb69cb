"""axe-core, the checker of accessibility: fetched once from the npm registry into a folder that git ignores."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import Page

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "axe-core" / VERSION / "axe.min.js"
SECONDS = 60
GRAVE = ("serious", "critical")


def script() -> str:
    """The script's text: from ``WARA_AXE`` (a file), the cache, or the registry; skips the test where none has it."""
    named = os.environ.get("WARA_AXE")
    path = Path(named) if named else CACHE
    if not path.is_file():
        _fetch(path)
    content = path.read_bytes()
    seen = hashlib.sha256(content).hexdigest()
    assert seen == SHA256, f"{path} is not axe-core {VERSION} (sha256 {seen}): delete it to have it fetched again"
    return content.decode()


def _fetch(path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no axe-core: npm is not installed (or name axe.min.js of {VERSION} by WARA_AXE)")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"no axe-core: npm cannot fetch {VERSION} from its registry ({type(error).__name__})")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            content = member.read()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: another worker may read it at this moment.
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def violations(page: Page, axe: str) -> list[str]:
    """Serious and critical violations on what is visible now, each with its rule and the elements it names."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: "
        + "; ".join(node["html"][:160] for node in rule["nodes"][:6])
        for rule in found["violations"]
        if rule["impact"] in GRAVE
    ]
