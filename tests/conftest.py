"""What every test shares: one thread, a fixed seed, no network, and the places of real data and of Chromium."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before numpy and torch are imported: with two workers on two cores, threads of their own only slow each other.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# Inherited by every process that a test starts, where the guard below does not reach.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["WARA_OFFLINE"] = "true"
# A test writes no key and no list of weights files into the home of whoever runs it.
_home = tempfile.TemporaryDirectory(prefix="wara-home-")
os.environ["WARA_HOME"] = _home.name

import numpy as np  # noqa: E402

pytest_plugins = ("pytester",)

ROOT = Path(__file__).resolve().parent.parent
SEED = 20_250_624
LONG = frozenset({"e2e", "crash", "hostile"})  # folders of tests that take minutes
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

_OWN_NAMES = frozenset({"", "localhost", "localhost.localdomain", "0.0.0.0", "::", "::1", socket.gethostname()})
_RESOLVE_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_CONNECT_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_refused: list[str] = []


class NetworkRefusedError(OSError):
    """A test tried to leave this machine."""


def _is_own_host(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None:
        return True
    name = str(host).lower().removeprefix("::ffff:")
    return name in _OWN_NAMES or name.startswith("127.") or name.endswith(".localhost")


def _guard(event: str, args: tuple[object, ...]) -> None:
    """Refuse names and addresses outside this machine.

    An audit hook sees every Python socket, also those that a library made before a patch could reach its module.
    The refusal is an ``OSError``, as without a network; it is also written down, since libraries may swallow it.
    """
    if event in _RESOLVE_EVENTS:
        host: object = args[0]
    elif event in _CONNECT_EVENTS and isinstance(args[1], tuple):
        host = args[1][0]
    else:  # another event, a UNIX socket's path, or a socket that is already connected
        return
    if not _is_own_host(host):
        _refused.append(f"{event} {host}")
        raise NetworkRefusedError(f"Tests stay on this machine ({event} to {host!r}); use a local file or server.")


sys.addaudithook(_guard)


@pytest.fixture
def refused_connections() -> Iterator[list[str]]:
    """The attempts to leave this machine that were refused in this test; asking for it makes them no failure."""
    yield _refused
    _refused.clear()


@pytest.fixture(autouse=True)
def _stay_offline(request: pytest.FixtureRequest) -> Iterator[None]:
    _refused.clear()
    yield
    attempts = sorted(set(_refused))
    _refused.clear()
    if attempts and "refused_connections" not in request.fixturenames:
        pytest.fail(f"The test tried to leave this machine: {', '.join(attempts)}", pytrace=False)


@pytest.fixture(autouse=True)
def seed() -> int:
    """The seed that Python, numpy and (once imported) torch start every test from."""
    random.seed(SEED)
    np.random.seed(SEED % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.manual_seed(SEED)
    return SEED


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A numpy generator with the test's seed."""
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real data and weights: ``WARA_SHARED``, or ``shared`` beside the checkout."""
    folder = Path(os.environ.get("WARA_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder} (set WARA_SHARED to the folder that holds data/ and weights/)")
    return folder.resolve()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium to drive: ``WARA_CHROMIUM``, or the first one on the search path."""
    named = os.environ.get("WARA_CHROMIUM")
    found = named if named else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None or not Path(found).is_file():
        pytest.skip(f"no Chromium ({named or 'apt-get install chromium'}; or set WARA_CHROMIUM to the program)")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by what they ask for, so that ``-m "not browser and not shared"`` always means it.

    Those that take longest come first: at the end of a run one worker would wait for the other's.
    """
    items.sort(key=lambda item: item.path.parent.name not in LONG)
    for item in items:
        names = getattr(item, "fixturenames", ())
        for fixture, marker in (("shared_dir", "shared"), ("chromium", "browser")):
            if fixture in names:
                item.add_marker(marker)
