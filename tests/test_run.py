from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="run.py's signals and paths are tried on POSIX systems")

LIMIT_S = 120
# A server as run.py expects it, of the standard library alone: it answers health and ends at SIGTERM.
BACKEND = """
import http.server, json, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/v1/health/live" else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok"}).encode())
    def log_message(self, *args):
        pass
def stop(number, frame):
    raise SystemExit(f"backend: {signal.Signals(number).name}")
signal.signal(signal.SIGTERM, stop)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["WARA_PORT"])), Handler).serve_forever()
"""


def _write_wheel(folder, name, version, files):
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


class Checkout:
    """A small project with the real run.py, whose requirements come from wheels beside it."""

    def __init__(self, root: Path, repository: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / "run.py", root)
        for version in ("1.0", "2.0"):
            _write_wheel(root / "wheels", "waratest", version, {"waratest.py": f"VERSION = {version!r}\n"})
        show = "import os, sys\nprint('pytest got', sys.argv[1:], os.environ['OMP_NUM_THREADS'])\nsys.exit(3)\n"
        _write_wheel(root / "wheels", "pytest", "1.0", {"pytest.py": show})
        self.require("waratest==1.0")
        (root / "requirements-dev.txt").write_text("-r requirements.txt\npytest==1.0\n", encoding="utf-8")
        (root / "backend").mkdir(exist_ok=True)
        (root / "backend" / "__main__.py").write_text(BACKEND, encoding="utf-8")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "WARA_"))}
        self.environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def require(self, line, where="--no-index --find-links wheels"):
        (self.root / "requirements.txt").write_text(f"{where}\n{line}\n", encoding="utf-8")

    def popen(self, *arguments, **settings):
        environment = self.environment | settings
        command = [sys.executable, "run.py", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=environment, start_new_session=True, **pipes)

    def run(self, *arguments, **settings):
        process = self.popen(*arguments, **settings)
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output

    def installed_version(self):
        command = [self.root / ".venv" / "bin" / "python", "-c", "import waratest; print(waratest.VERSION)"]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def made_once(tmp_path_factory, repository):
    checkout = Checkout(tmp_path_factory.mktemp("made"), repository)
    code, output = checkout.run("setup")
    assert code == 0, output
    assert "The environment is ready" in output
    return checkout


@pytest.fixture
def checkout(made_once, tmp_path, repository):
    """A checkout whose environment is whole."""
    made = Checkout(tmp_path / "checkout", repository)
    shutil.copytree(made_once.root / ".venv", made.root / ".venv", symlinks=True)
    return made


@pytest.fixture
def bare(tmp_path, repository):
    """A checkout without an environment."""
    return Checkout(tmp_path / "checkout", repository)


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def run_module(repository, monkeypatch, tmp_path):
    specification = importlib.util.spec_from_file_location("run_under_test", repository / "run.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name, place in (("VENV", ""), ("VENV_PYTHON", "bin/python"), ("STAMP", "stamp"), ("UNFINISHED", "mark")):
        monkeypatch.setattr(module, name, tmp_path / ".venv" / place)
    return module


def _read_until(process, text):
    """Read the output up to the line that holds ``text``; one that never prints it is ended, which fails the test."""
    overdue = threading.Timer(LIMIT_S, process.kill)
    overdue.start()
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
    finally:
        overdue.cancel()
    raise AssertionError(f"ended without {text!r}:\n{''.join(lines)}")


# ---- the environment


def test_a_whole_environment_is_used_as_it_is(checkout):
    code, output = checkout.run("setup", PIP_NO_INDEX="nonsense that would stop pip")

    assert code == 0, output
    assert "Installing" not in output
    assert checkout.installed_version() == "1.0"


def test_changed_requirements_are_installed(checkout):
    checkout.require("waratest==2.0")

    code, output = checkout.run("setup")

    assert code == 0, output
    assert "Installing" in output
    assert checkout.installed_version() == "2.0"


def test_an_installation_that_was_killed_is_made_again(bare):
    killed = bare.popen("setup")
    mark = bare.root / ".venv" / ".wara-installing"
    while not mark.exists() and killed.poll() is None:
        pass
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=LIMIT_S)
    assert mark.exists()
    (bare.root / ".venv" / "left-over").write_text("half", encoding="utf-8")

    code, output = bare.run("setup")

    assert code == 0, output
    assert "did not finish" in output
    assert bare.installed_version() == "1.0"
    assert not mark.exists()
    assert not (bare.root / ".venv" / "left-over").exists()


def test_without_a_network_the_message_says_so_and_the_old_environment_stays_whole(checkout, port):
    before = (checkout.root / "requirements.txt").read_text(encoding="utf-8")
    checkout.require("waratest==3.0", where=f"--index-url http://127.0.0.1:{port}/simple")

    code, output = checkout.run("setup")

    assert code == 1
    assert "The package index was not reached. Check the network" in output
    assert "Traceback" not in output
    (checkout.root / "requirements.txt").write_text(before, encoding="utf-8")
    code, output = checkout.run("setup")
    assert (code, "Installing" in output) == (0, False)


def test_a_package_that_does_not_exist_is_named(checkout):
    checkout.require("waratest==9.9")

    code, output = checkout.run("setup")

    assert code == 1
    assert "waratest==9.9" in output
    assert "could not be installed" in output


def test_two_starts_at_once_install_one_after_the_other(checkout):
    checkout.require("waratest==2.0")

    both = [checkout.popen("setup") for _ in range(2)]

    outputs = [process.communicate(timeout=LIMIT_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert checkout.installed_version() == "2.0"
    assert sum("Installing the packages" in output for output in outputs) == 1


def test_an_environment_of_another_python_is_left_alone(checkout):
    settings = checkout.root / ".venv" / "pyvenv.cfg"
    settings.write_text(settings.read_text(encoding="utf-8").replace("version = 3.11", "version = 3.12"), "utf-8")
    checkout.require("waratest==2.0")

    code, output = checkout.run("setup")

    assert code == 1
    assert "holds Python 3.12; 3.11 is needed" in output
    assert checkout.installed_version() == "1.0"


def test_a_python_that_is_not_3_11_is_refused_in_a_plain_sentence(bare):
    other = bare.root / "python-other"
    other.write_text("#!/bin/sh\necho 3.12\n", encoding="utf-8")
    other.chmod(0o755)

    code, output = bare.run("setup", WARA_PYTHON=str(other))

    assert code == 1
    assert output.strip() == (
        f"WaRA Studio needs Python 3.11 ({other}). Install it, or set WARA_PYTHON to the program."
    )
    assert not (bare.root / ".venv").exists()


def test_too_little_disk_is_said_before_anything_is_made(run_module, monkeypatch, tmp_path):
    full = shutil.disk_usage(tmp_path)._replace(free=1_500_000_000)
    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda path: full)

    with pytest.raises(run_module.Stop, match=r"needs about 8 GB, 1\.5 GB are free"):
        run_module.make_environment(cpu=False)

    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
        ("WARNING: Retrying ... NameResolutionError: Temporary failure in name resolution", "index was not reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "See pip's message above"),
    ],
)
def test_the_likely_reason_of_a_failure_is_said(run_module, log, sentence):
    assert sentence in run_module.reason_of_failure(log, cpu=False)


def test_cpu_builds_come_from_the_index_that_the_person_names(bare):
    bare.require("torch==1.0\ntorchvision==1.0\nwaratest==1.0")
    code, output = bare.run("--cpu", "setup")
    assert code == 1
    assert "WARA_TORCH_INDEX_URL" in output
    assert not (bare.root / ".venv").exists()

    index = bare.root / "index"
    for name in ("torch", "torchvision"):
        _write_wheel(bare.root / "small", name, "1.0+cpu", {f"{name}.py": "BUILD = 'cpu'\n"})
        _write_wheel(bare.root / "wheels", name, "1.0", {f"{name}.py": "BUILD = 'ordinary'\n"})
        wheel = bare.root / "small" / f"{name}-1.0+cpu-py3-none-any.whl"
        (index / name).mkdir(parents=True)
        (index / name / "index.html").write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>', encoding="utf-8")
    code, output = bare.run("--cpu", "setup", WARA_TORCH_INDEX_URL=index.as_uri())

    assert code == 0, output
    command = [
        bare.root / ".venv" / "bin" / "python",
        "-c",
        "import torch, torchvision as t; print(torch.BUILD, t.BUILD)",
    ]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout == "cpu cpu\n"
    assert json.loads((bare.root / ".venv" / ".wara-installed.json").read_text(encoding="utf-8"))["cpu"] is True


# ---- the server


def test_the_address_is_printed_once_the_server_answers_and_ctrl_c_ends_it(checkout, port):
    process = checkout.popen(WARA_PORT=str(port))

    _read_until(process, f"Open http://127.0.0.1:{port} in a browser")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 0
    assert "backend: SIGTERM" in output
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_service_manager_stops_it_with_sigterm(checkout, port):
    process = checkout.popen(WARA_PORT=str(port), WARA_HOST="0.0.0.0")

    _read_until(process, f"Open http://127.0.0.1:{port} in a browser")
    process.terminate()
    output, _ = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 0
    assert "backend: SIGTERM" in output


def test_a_second_start_says_that_it_is_already_running(checkout, port):
    first = checkout.popen(WARA_PORT=str(port))
    _read_until(first, "in a browser")

    code, output = checkout.run(WARA_PORT=str(port))

    first.send_signal(signal.SIGINT)
    first.communicate(timeout=LIMIT_S)
    assert code == 1
    assert f"already running: http://127.0.0.1:{port}" in output


def test_a_busy_port_is_named_before_anything_is_installed(bare):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        other.settimeout(LIMIT_S)
        closing = threading.Thread(target=lambda: other.accept()[0].close())
        closing.start()

        code, output = bare.run(WARA_PORT=str(taken))

        closing.join(LIMIT_S)
    assert code == 1
    assert f"Port {taken} on 127.0.0.1 cannot be used" in output
    assert f"WARA_PORT={taken % 65535 + 1} python3 run.py" in output
    assert not (bare.root / ".venv").exists()


@pytest.mark.parametrize("seen", ["abc", "0", "70000", "-1", "²", "7" * 5000])
def test_a_port_that_is_none_is_refused(bare, seen):
    code, output = bare.run(WARA_PORT=seen)

    assert code == 1
    assert output.startswith(f"WARA_PORT is not a port (seen: '{seen}')")


@pytest.mark.parametrize("seen", ["no.such.host.invalid", "a..b", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_told_from_a_busy_port(bare, seen):
    code, output = bare.run(WARA_HOST=seen)

    assert code == 1
    assert output.startswith(f"WARA_HOST is no address of this machine (seen: '{seen}')")
    assert "another port" not in output and not (bare.root / ".venv").exists()


def test_a_server_that_ends_while_starting_is_reported_with_its_code(checkout, port):
    (checkout.root / "backend" / "__main__.py").write_text("print('no database')\nraise SystemExit(7)", "utf-8")

    code, output = checkout.run(WARA_PORT=str(port))

    assert code == 1
    assert "no database" in output
    assert "The server stopped while starting (exit code 7)" in output


# ---- tests and demo


def test_pytest_gets_two_workers_its_options_and_gives_its_exit_code(checkout):
    code, output = checkout.run("test", "-k", "demo", "--dev")

    assert code == 3, output
    assert "pytest got ['-n', '2', '--dist', 'worksteal', '-k', 'demo', '--dev'] 1" in output


def test_workers_that_the_person_chose_are_kept(checkout):
    _, output = checkout.run("test", "-n0")

    assert "pytest got ['-n0'] 1" in output


def test_the_demo_runs_the_four_commands_with_the_embedded_backbone_and_names_what_they_wrote(checkout):
    package = checkout.root / "wara"
    package.mkdir()
    record = "import sys\nprint('wara got', sys.argv[1:])\n"
    (package / "__main__.py").write_text(record, encoding="utf-8")
    draw = (
        "import pathlib, sys\nout = pathlib.Path(sys.argv[1]) / 'a'\nout.mkdir(parents=True)\n(out / 'x.png').touch()\n"
    )
    (package / "demo.py").write_text(draw, encoding="utf-8")

    code, output = checkout.run("demo")

    assert code == 0, output
    folder = checkout.root / "runs" / "demo-1"
    got = [ast.literal_eval(line.removeprefix("wara got ")) for line in output.splitlines() if "wara got" in line]
    sample, run = str(folder / "synthetic-sample"), str(folder / "run")
    trained = ["--method", "wara", "--preset", "quick", "--backbone", "embedded"]
    assert got == [
        ["check", sample],
        ["train", sample, "--out", run, *trained],
        ["predict", run, str(folder / "synthetic-unseen" / "a" / "x.png"), "--csv", str(folder / "predictions.csv")],
        ["analyse", run, sample, "--out", str(folder / "analysis")],
    ]
    assert f"images are synthetic. Results: {folder}" in output

    (package / "__main__.py").write_text("raise SystemExit(2)", encoding="utf-8")
    code, output = checkout.run("demo", "--backbone", "some_vit")
    assert code == 1
    assert "The demo stopped at 'Checking them' (exit code 2)" in output


# ---- the project's own files


def test_run_py_can_be_read_by_an_old_python(repository):
    source = (repository / "run.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= sys.stdlib_module_names


def test_every_requirement_is_pinned_and_torch_comes_as_a_pair(repository):
    lines = [
        line.strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (repository / name).read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    loose = [line for line in lines if "==" not in line and not line.startswith(("-r ", "setuptools"))]
    assert loose == []
    assert {line.partition("==")[0] for line in lines} >= {"torch", "torchvision", "pytest"}
    assert "-r requirements.txt" in lines
