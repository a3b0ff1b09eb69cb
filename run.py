#!/usr/bin/env python3
"""One command from a fresh checkout to the page in the browser: environment, server, address.

python3 run.py                        make the environment when needed, start, print the address
python3 run.py test [pytest options]  the same with the tools of development, then the tests
python3 run.py demo [--backbone B]    check, train, predict and analyse on synthetic images, without a browser
python3 run.py setup [--dev]          only make the environment

--cpu before the command installs the small CPU build of torch from the index that WARA_TORCH_INDEX_URL names.
Settings are WARA_* variables; pip follows its own configuration. Standard library only, and written so that Python 3.6
can still read it: whichever Python a machine calls python3 gets to say that 3.11 is needed, or to find it.
"""

import argparse
import collections
import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parent
PYTHON = (3, 11)
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".wara-installed.json"
UNFINISHED = VENV / ".wara-installing"
RUNTIME, DEVELOPMENT = "requirements.txt", "requirements-dev.txt"
NEEDED_GB = {False: 8, True: 2}  # by --cpu
START_LIMIT_S = 300
STOP_LIMIT_S = 20

DISK_SIGNS = ("No space left on device", "[Errno 28]", "not enough space")
NETWORK_SIGNS = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ProxyError",
    "CERTIFICATE_VERIFY_FAILED",
    "(from versions: none)",  # all that pip says when told not to retry
)


class Stop(Exception):
    """The end of the command, with the sentence that a person reads."""


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(text, flush=True)


# ---- the environment ------------------------------------------------------------------------------------------------


def find_python() -> str:
    """Return a Python 3.11 that can make environments: ``WARA_PYTHON``, this one, or one on the search path."""
    named = os.environ.get("WARA_PYTHON")
    base = str(Path(sys.base_prefix, "bin", "python3.11"))
    found_without_pip = None
    for candidate in [named] if named else [sys.executable, base, "python3.11", "python3", "python"]:
        path = shutil.which(candidate)
        if path is None or Path(path).parent == VENV_PYTHON.parent:  # .venv may be about to be emptied
            continue
        script = "import sys; print('%d.%d' % sys.version_info[:2]); import venv, ensurepip"
        answer = subprocess.run([path, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if answer.stdout.decode("ascii", "replace").strip() == "{}.{}".format(*PYTHON):
            if answer.returncode == 0:
                return path
            found_without_pip = path
    if found_without_pip:
        raise Stop(f"{found_without_pip} cannot make environments. On Debian, Ubuntu: apt-get install python3.11-venv")
    seen = named or "this is {}.{}, and there is no python3.11 on the search path".format(*sys.version_info[:2])
    raise Stop(f"WaRA Studio needs Python 3.11 ({seen}). Install it, or set WARA_PYTHON to the program.")


def digest(name: str) -> str:
    """Return the SHA-256 of a requirements file."""
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def requirements(dev: bool) -> tuple:
    """Return the names of the requirements files that an environment is made of."""
    return (RUNTIME, DEVELOPMENT) if dev else (RUNTIME,)


def read_stamp() -> dict:
    """Return what was installed last, or nothing when that is unknown."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_ready(dev: bool, cpu: bool) -> bool:
    """Whether the environment holds what the requirements files ask for now."""
    stamp = read_stamp()
    whole = VENV_PYTHON.exists() and not UNFINISHED.exists() and (not cpu or stamp.get("cpu") is True)
    return whole and all(stamp.get(name) == digest(name) for name in requirements(dev))


@contextlib.contextmanager
def only_one_installs():
    """Wait until no other start from this checkout is installing (where the system has file locks)."""
    with (ROOT / RUNTIME).open("rb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another start is making the environment; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(dev: bool = False, cpu: bool = False) -> None:
    """Make or renew ``.venv`` when the requirements files changed since it was last made whole."""
    if is_ready(dev, cpu):
        return
    with only_one_installs():
        if is_ready(dev, cpu):
            return
        index = os.environ.get("WARA_TORCH_INDEX_URL", "")
        cpu = cpu or bool(index and read_stamp().get("cpu"))  # what was small stays small
        if cpu and not index:
            raise Stop(
                "--cpu needs an index with CPU builds of torch. Set WARA_TORCH_INDEX_URL to the address that "
                "PyTorch's install page names for CPU, or leave --cpu out (the ordinary build works without a GPU too)."
            )
        try:
            make_environment(cpu)
            install(dev, index if cpu else "")
        except OSError as error:
            raise Stop(f"The environment {VENV} cannot be made: {error}. Check its permissions and the disk.") from None


def make_environment(cpu: bool) -> None:
    """Create ``.venv`` unless a whole one is there; one that was interrupted is emptied and made again."""
    interrupted = UNFINISHED.exists()
    swap_build = cpu and not read_stamp().get("cpu")
    settings = VENV / "pyvenv.cfg"
    if not interrupted and not swap_build and settings.exists() and VENV_PYTHON.exists():
        version = re.search(r"^version\s*=\s*(\d+\.\d+)", settings.read_text(encoding="utf-8"), re.MULTILINE)
        if version and version.group(1) != "{}.{}".format(*PYTHON):
            raise Stop(f"{VENV} holds Python {version.group(1)}; 3.11 is needed. Remove that folder and start again.")
        return
    python = find_python()
    free_gb = shutil.disk_usage(str(ROOT)).free / 1e9
    if free_gb < NEEDED_GB[cpu]:
        raise Stop(
            f"Not enough disk: the environment needs about {NEEDED_GB[cpu]} GB, "
            f"{free_gb:.1f} GB are free at {ROOT}. Free some space and start again."
        )
    if interrupted:
        say("An earlier installation did not finish; making the environment again.")
    VENV.mkdir(exist_ok=True)
    # The mark is there before and stays until all is done, so whatever happens in between is seen at the next start.
    UNFINISHED.touch()
    for entry in VENV.iterdir():
        if entry != UNFINISHED:
            shutil.rmtree(str(entry)) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    made = subprocess.run([python, "-m", "venv", str(VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if made.returncode != 0:
        output = made.stdout.decode("utf-8", "replace").strip()
        raise Stop(f"python -m venv failed:\n{output}\n{reason_of_failure(output, cpu)}")


def install(dev: bool, index: str) -> None:
    """Install the requirements, write the stamp last. ``index`` holds the CPU builds of torch, if they are wanted."""
    say(f"Installing the packages (once; some minutes, about {NEEDED_GB[bool(index)]} GB) ...")
    if index:
        lines = (ROOT / RUNTIME).read_text(encoding="utf-8").splitlines()
        pair = [line.strip() for line in lines if re.match(r"(torch|torchvision)==", line)]
        # Without dependencies: those come with everything else, from where pip is configured to look.
        pip(["--no-deps", "--index-url", index, *pair], cpu=True)
    pip(["-r", str(ROOT / requirements(dev)[-1])], cpu=bool(index))
    stamp = dict({name: digest(name) for name in requirements(dev)}, cpu=bool(index))
    partial = STAMP.with_name(STAMP.name + ".new")
    partial.write_text(json.dumps(stamp), encoding="utf-8")
    if UNFINISHED.exists():
        UNFINISHED.unlink()
    partial.replace(STAMP)


def pip(arguments: list, cpu: bool) -> None:
    """Run ``pip install`` and show one moving line of it; a failure becomes a sentence."""
    process = subprocess.Popen(
        [str(VENV_PYTHON), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *arguments],
        cwd=str(ROOT),
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        errors="replace",
    )
    moving = sys.stdout.isatty()
    tail = collections.deque(maxlen=400)
    for line in process.stdout:
        tail.append(line.rstrip())
        step = re.match(r"\s*(Collecting|Downloading|Using cached|Installing collected packages)\b:?\s*(\S*)", line)
        if step and step.group(1).startswith("Installing"):
            UNFINISHED.touch()  # until here pip only downloaded, and an environment that was whole still is
        if step and moving:
            print(f"\r\033[K  {step.group(1)} {Path(step.group(2)).name[:60]}", end="", flush=True)
    if moving:
        print("\r\033[K", end="", flush=True)
    if process.wait() != 0:
        log = "\n".join(tail)
        errors = [line for line in tail if line.startswith("ERROR")] or list(tail)[-5:]
        raise Stop("\n".join(["The packages could not be installed.", *errors[-5:], reason_of_failure(log, cpu)]))


def reason_of_failure(log: str, cpu: bool) -> str:
    """Say in a sentence what a failed installation's output most likely means and what to do."""
    if any(sign in log for sign in DISK_SIGNS):
        return (
            f"The disk is full: the set needs about {NEEDED_GB[cpu]} GB, and pip keeps downloads in its cache and in "
            "the temporary folder (TMPDIR). Free some space and start again."
        )
    if any(sign in log for sign in NETWORK_SIGNS):
        return (
            "The package index was not reached. Check the network, or pip's own settings for a proxy, a mirror or a "
            "certificate (python3 -m pip config list), and start again."
        )
    return "See pip's message above; after mending its cause, start again."


# ---- the server -----------------------------------------------------------------------------------------------------


def address() -> tuple:
    """Return host and port of the server from ``WARA_HOST`` and ``WARA_PORT``."""
    host, port = os.environ.get("WARA_HOST") or "127.0.0.1", os.environ.get("WARA_PORT") or "7860"
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise Stop(f"WARA_PORT is not a port (seen: {port!r}). Use a number from 1 to 65535, or leave it out for 7860.")
    return host, int(port)


def no_address(host: str) -> str:
    """Say that nothing can listen at a host, whatever the port."""
    return (
        f"WARA_HOST is no address of this machine (seen: {host!r}). Use 127.0.0.1 for this machine alone, 0.0.0.0 for "
        "all of its networks, or one of its own addresses."
    )


def url_of(host: str, port: int) -> str:
    """Return the address to open on this machine for a server that listens on ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    scheme = "https" if os.environ.get("WARA_TLS_CERT") else "http"
    return "{}://{}:{}".format(scheme, f"[{host}]" if ":" in host else host, port)


def health(url: str) -> bool:
    """Whether WaRA Studio answers at ``url``. A proxy is never asked: the address is this machine's."""
    # Nothing secret is asked or sent, and the certificate need not be one for this machine's own address.
    trusting = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting)
    try:
        with opener.open(url + "/api/v1/health/live", timeout=5) as answer:
            return json.loads(answer.read().decode("utf-8")).get("status") == "ok"
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return False


def check_port(host: str, port: int) -> None:
    """Stop with a plain sentence when the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return
        except (socket.gaierror, UnicodeError):
            raise Stop(no_address(host)) from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise Stop(no_address(host)) from None
            reason = error.strerror or error
    if health(url_of(host, port)):
        raise Stop(f"WaRA Studio is already running: {url_of(host, port)} (WARA_PORT chooses another port)")
    raise Stop(
        f"Port {port} on {host} cannot be used ({reason}). Another program may be using it; "
        f"choose another port: WARA_PORT={port % 65535 + 1} python3 run.py"
    )


def start() -> int:
    """Run the server until it ends or is told to; print its address once it answers."""
    host, port = address()
    url = url_of(host, port)
    stopping = []

    def forward(number, frame):
        """Pass the wish to stop on, the first time gently, the second time at once."""
        del frame
        stopping.append(number)
        if os.name == "posix" and server is not None and server.poll() is None:
            # SIGTERM for Ctrl-C too: Python answers SIGINT with a traceback, which tells a person nothing here.
            server.send_signal(signal.SIGTERM if len(stopping) == 1 else signal.SIGKILL)

    say("Starting WaRA Studio ...")
    server = None
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), forward)
    # In a session of its own, so that a terminal's Ctrl-C reaches it once, through forward, and not twice.
    server = subprocess.Popen([str(VENV_PYTHON), "-m", "backend"], cwd=str(ROOT), start_new_session=os.name == "posix")
    if stopping:
        server.terminate()
    deadline = time.monotonic() + START_LIMIT_S
    ready = False
    while server.poll() is None and not stopping:
        if not ready and health(url):
            ready = True
            say(f"Open {url} in a browser (Ctrl-C stops it).")
        elif not ready and time.monotonic() > deadline:
            server.terminate()
            raise Stop(f"The server did not answer at {url} within {START_LIMIT_S} s; its own messages are above.")
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.25)
    if stopping:
        say("Stopping ...")
        try:
            server.wait(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        return 0
    moment = "" if ready else " while starting"
    raise Stop(f"The server stopped{moment} (exit code {server.returncode}); its own messages are above.")


# ---- tests and demo -------------------------------------------------------------------------------------------------


def test(options: list) -> int:
    """Run pytest with two workers, one thread each, and return its exit code."""
    names = (os.environ.get("WARA_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, names)):
        say("No Chromium here: the browser tests will be skipped (apt-get install chromium, or set WARA_CHROMIUM).")
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    own_workers = any(re.match(r"-n|--numprocesses|no:xdist", option) for option in options)
    # Neighbours stay on one worker, so that what a module sets up once (a trained model, a server) is set up once.
    workers = [] if own_workers else ["-n", "2", "--dist", "worksteal"]
    return wait_for([str(VENV_PYTHON), "-m", "pytest", *workers, *options], environment)


def wait_for(command: list, environment: dict) -> int:
    """Run a command in the checkout to its end; Ctrl-C reaches it by the terminal and is waited for."""
    process = subprocess.Popen(command, cwd=str(ROOT), env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def demo(backbone: str) -> int:
    """Take a synthetic sample through check, train, predict and analyse, as a person would at the command line."""
    backbone = backbone or "embedded"
    numbered = (ROOT / "runs" / f"demo-{number}" for number in range(1, 10000))
    folder = next(path for path in numbered if not path.exists())
    sample, unseen, run = folder / "synthetic-sample", folder / "synthetic-unseen", folder / "run"
    steps = [
        ("Drawing synthetic images", ["wara.demo", sample]),
        ("Drawing others to classify", ["wara.demo", unseen, "--images", "9", "--seed", "1"]),
        ("Checking them", ["wara", "check", sample]),
        ("Training", ["wara", "train", sample, "--out", run, "--method", "wara", "--preset", "quick"]),
        ("Classifying images it has never seen", ["wara", "predict", run]),
        ("Analysing", ["wara", "analyse", run, sample, "--out", folder / "analysis"]),
    ]
    for title, step in steps:
        say(f"\n{title} ...")
        if step[:2] == ["wara", "train"]:
            step = [*step, "--backbone", backbone]
        elif step[:2] == ["wara", "predict"]:
            images = sorted(path for path in unseen.rglob("*") if path.is_file())
            step = [*step, *images, "--csv", folder / "predictions.csv"]
        code = wait_for([str(VENV_PYTHON), "-m", *map(str, step)], dict(os.environ))
        if code != 0:
            raise Stop(f"The demo stopped at '{title}' (exit code {code}); the message above says why.")
    say(f"\nThe demo is done; its images are synthetic. Results: {folder}")
    figures = sorted([*(run / "figures").glob("*.png"), *(folder / "analysis").glob("*.png")])
    for path in (run / "card.md", run / "metrics.json", folder / "predictions.csv", *figures):
        say(f"  {path}")
    return 0


def main(arguments: list) -> int:
    """Read the command line and do what it says."""
    commands = ("start", "test", "demo", "setup")
    place = next((k for k, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    # Everything after "test" is pytest's, options that look like ours included.
    passed_on = arguments[place + 1 :] if arguments[place : place + 1] == ["test"] else []
    parser = argparse.ArgumentParser(
        prog="python3 run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=commands, default="start", help="start when left out")
    parser.add_argument("--cpu", action="store_true", help="CPU builds of torch from WARA_TORCH_INDEX_URL")
    parser.add_argument("--dev", action="store_true", help="setup: with the tools of development")
    parser.add_argument("--backbone", default="", help="demo: a timm name, or name:/path/weights.safetensors")
    options = parser.parse_args(arguments[: len(arguments) - len(passed_on)])
    try:
        if options.command == "start":
            check_port(*address())
        prepare(dev=options.dev or options.command == "test", cpu=options.cpu)
        if options.command == "test":
            return test(passed_on)
        if options.command == "demo":
            return demo(options.backbone)
        if options.command == "setup":
            say(f"The environment is ready: {VENV}")
            return 0
        return start()
    except Stop as stop:
        print(stop, file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
