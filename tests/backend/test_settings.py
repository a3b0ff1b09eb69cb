"""Settings: from the environment, checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WARA_{name.upper()}", raising=False)


def test_the_default_is_this_machine_alone_and_offline() -> None:
    settings = Settings()
    assert settings.on_loopback and settings.offline
    assert settings.base_url() == "http://127.0.0.1:7860"
    assert settings.data_dir == Path.cwd() / "data"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WARA_PORT", "8123")
    monkeypatch.setenv("WARA_DATA_DIR", str(tmp_path / "x"))
    monkeypatch.setenv("WARA_BACKBONES", f"deit_tiny_patch16_224:{tmp_path}/a.safetensors, vit_b:/w:x.pth")
    settings = Settings()
    assert (settings.port, settings.data_dir) == (8123, tmp_path / "x")
    assert settings.backbone_files == [
        ("deit_tiny_patch16_224", tmp_path / "a.safetensors"),
        ("vit_b", Path("/w:x.pth")),
    ]


@pytest.mark.parametrize(
    "values", [{"port": 70000}, {"backbones": "no-path-here"}, {"device": "toaster"}, {"min_free_mb": -1}]
)
def test_what_cannot_work_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)


@pytest.mark.parametrize(
    ("host", "loopback", "url"),
    [
        ("localhost", True, "http://localhost:7860"), ("127.0.0.2", True, "http://127.0.0.2:7860"),
        ("::1", True, "http://[::1]:7860"), ("0.0.0.0", False, "http://127.0.0.1:7860"),
        ("::", False, "http://[::1]:7860"), ("studio.example", False, "http://studio.example:7860"),
    ],
)  # fmt: skip
def test_the_address_is_one_a_browser_here_can_open(host: str, loopback: bool, url: str) -> None:
    settings = Settings(host=host)
    assert settings.on_loopback is loopback
    assert settings.base_url() == url


def test_an_empty_variable_is_as_if_it_were_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "DATA_DIR", "OFFLINE", "DEVICE"):
        monkeypatch.setenv(f"WARA_{name}", "")
    settings = Settings()
    assert (settings.host, settings.port, settings.offline, settings.device) == ("127.0.0.1", 7860, True, "auto")
    assert settings.on_loopback and settings.data_dir == Path.cwd() / "data"
