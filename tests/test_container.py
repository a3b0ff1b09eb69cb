from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml


def _instructions(dockerfile):
    """The instructions as (name, rest), with continuation lines joined and comments dropped."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def instructions(repository):
    return _instructions(repository / "Dockerfile")


@pytest.fixture(scope="module")
def compose(repository):
    return yaml.safe_load((repository / "compose.yaml").read_text(encoding="utf-8"))


def _last_stage(instructions):
    start = max(position for position, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[start:])


def _sent_to_the_builder(repository, path):
    """Whether .dockerignore lets a path through: the last pattern that matches it or a parent decides."""
    sent = True
    lines = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for pattern in (line.strip() for line in lines if line.strip() and not line.startswith("#")):
        again = pattern.startswith("!")
        plain = pattern.removeprefix("!")
        parts = Path(path).parts
        prefixes = ["/".join(parts[: k + 1]) for k in range(len(parts))]
        names = parts if plain.startswith("**/") else prefixes
        if any(fnmatch.fnmatchcase(name, plain.removeprefix("**/")) for name in names):
            sent = again
    return sent


def test_hadolint_finds_nothing(repository):
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    result = subprocess.run([hadolint, repository / "Dockerfile"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    assert result.returncode == 0, result.stdout.decode()


def test_the_image_runs_as_a_numbered_user_that_is_not_root(instructions):
    user = _last_stage(instructions)["USER"]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert any(name == "RUN" and f"useradd --uid {user.partition(':')[0]} " in rest for name, rest in instructions)


@pytest.mark.parametrize(
    ("device", "torch_can", "code", "said"),
    [
        ("cpu", False, 0, ""),
        ("cuda", True, 0, ""),
        ("cuda", False, 1, "This torch has no CUDA"),
        ("gpu", True, 1, "DEVICE is 'gpu'; use cpu or cuda."),
    ],
)
def test_the_device_argument_is_checked_while_building(instructions, tmp_path, device, torch_can, code, said):
    step = next(rest for name, rest in instructions if name == "RUN" and rest.startswith("case"))
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {0 if torch_can else 1}\n", encoding="utf-8")
    python.chmod(0o755)

    script = step.replace("/opt/wara/bin/python", str(python))
    result = subprocess.run(["sh", "-c", script], env={"DEVICE": device}, stdout=subprocess.PIPE, text=True)

    assert result.returncode == code
    assert said in result.stdout
    assert ("ARG", "DEVICE=cpu") in instructions


def test_no_index_is_named_by_default(instructions):
    assert ("ARG", 'TORCH_INDEX_URL=""') in instructions
    assert not [rest for _, rest in instructions if "https://" in rest]


def test_everything_that_is_copied_is_there_and_reaches_the_builder(instructions, repository):
    copied = [rest.split()[0] for name, rest in instructions if name == "COPY" and not rest.startswith("--from")]

    assert {"requirements.txt", "wara", "backend", "app", "assets"} <= set(copied)
    for source in copied:
        assert (repository / source).exists(), source
        assert _sent_to_the_builder(repository, source), source


@pytest.mark.parametrize(
    "path",
    [
        "data/studio.db",
        "runs/demo-1/run/metrics.json",
        ".venv/bin/python",
        ".git/config",
        "tests/conftest.py",
        "scan.dcm",
        "assets/screenshots/train.png",
        "wara/__pycache__/demo.cpython-311.pyc",
    ],
)
def test_data_and_leftovers_never_reach_the_builder(repository, path):
    assert not _sent_to_the_builder(repository, path)


@pytest.mark.parametrize("path", ["assets/backbones/embedded.safetensors", "assets/backbones/embedded.json"])
def test_the_embedded_backbone_reaches_the_builder(repository, path):
    assert _sent_to_the_builder(repository, path)


def test_all_that_is_written_lies_on_one_volume(instructions):
    stage = _last_stage(instructions)
    settings = dict(entry.split("=", 1) for entry in stage["ENV"].split())

    assert stage["VOLUME"] == "/data" == settings["WARA_DATA_DIR"]
    for name in ("HOME", "TMPDIR", "WARA_HOME"):
        assert settings[name].startswith("/data/"), name


def test_the_code_comes_after_the_packages_so_that_a_change_sends_few_layers(instructions):
    steps = [rest for name, rest in instructions if name in ("COPY", "RUN")]

    assert [step.split()[-1] for step in steps[-5:]] == ["./", "./assets", "./wara", "./backend", "./app"]


@pytest.mark.parametrize("place", [("Config", "Healthcheck"), ("HealthCheck",)], ids=["docker", "podman"])
def test_the_container_check_finds_the_health_command_where_either_tool_keeps_it(repository, place):
    image = {"Test": ["CMD", "python", "-c", "pass"]}
    for name in reversed(place):
        image = {name: image}
    drive = [sys.executable, repository / "tests" / "container" / "drive.py", "health-command"]
    said = subprocess.run(drive, input=json.dumps([image]), stdout=subprocess.PIPE, text=True, check=True).stdout
    without = subprocess.run(drive, input='[{"Config": {}}]', stderr=subprocess.PIPE, text=True)

    assert said.split("\0") == ["python", "-c", "pass", ""]
    assert without.returncode == 1 and "--format docker" in without.stderr


def test_the_container_check_is_a_script_that_bash_can_read(repository):
    script = repository / "tests" / "container" / "check.sh"

    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_the_health_check_tells_a_server_that_answers_from_one_that_does_not(instructions, monkeypatch):
    check = json.loads(_last_stage(instructions)["HEALTHCHECK"].partition("CMD ")[2])
    assert check[0] == "python"
    server = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if self.path == '/api/v1/health/live' else 404); self.end_headers()\n"
        "    def log_message(self, *args): pass\n"
        "s = h.HTTPServer(('127.0.0.1', 0), H)\n"
        "print(s.server_port, flush=True)\n"
        "s.serve_forever()\n"
    )
    # A proxy that is not there: the check must not ask it for an address of its own machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True) as process:
        monkeypatch.setenv("WARA_PORT", process.stdout.readline().strip())
        while_up = subprocess.run([sys.executable, *check[1:]], stderr=subprocess.PIPE)
        process.kill()
    while_down = subprocess.run([sys.executable, *check[1:]], stderr=subprocess.PIPE)

    assert while_up.returncode == 0, while_up.stderr.decode()
    assert while_down.returncode == 1


def test_compose_publishes_on_loopback_only_with_a_volume_and_a_read_only_root(compose):
    assert set(compose["services"]) == {"studio", "studio-gpu"}
    for service in compose["services"].values():
        assert service["ports"] == ["127.0.0.1:${WARA_PORT:-7860}:7860"]
        assert service["volumes"] == ["data:/data"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["environment"]["WARA_ALLOWED_HOSTS"]
        assert service["environment"]["WARA_PUBLISHED_ON_LOOPBACK"] == "true"


def test_the_gpu_service_waits_for_its_profile_and_builds_for_cuda(compose):
    cpu, gpu = compose["services"]["studio"], compose["services"]["studio-gpu"]

    assert "profiles" not in cpu
    assert gpu["profiles"] == ["gpu"]
    assert (cpu["build"]["args"]["DEVICE"], gpu["build"]["args"]["DEVICE"]) == ("cpu", "cuda")
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
