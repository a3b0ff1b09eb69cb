"""What jobs can run on, one slot a device. ``python -m backend.devices WANTED`` looks and prints what it found."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from threading import Lock, Thread

from backend.jobs.process import ROOT

COMMAND = (sys.executable, "-m", "backend.devices")
LIMIT_S = 120.0

log = logging.getLogger("backend.devices")


@dataclass(frozen=True)
class Device:
    """A device by torch's name for it, its kind (cpu, cuda, mps) and a name to show."""

    spec: str
    type: str
    name: str


class Devices:
    """Finds the devices once, in a process of its own: torch takes seconds to import, and this one has to answer.

    Args:
        wanted: ``auto`` for every CUDA device, else Apple's GPU, else the processor; or one device's name.
        command: what looks, to which `wanted` is added; prints a JSON list.
    """

    def __init__(self, wanted: str, command: tuple[str, ...] = COMMAND) -> None:
        self._command = (*command, wanted)

    def look(self) -> None:
        """Begin to look; does not wait. Nobody looks twice."""
        self._search()

    def known(self) -> tuple[Device, ...] | None:
        """Return the devices, or None while they are being looked for."""
        search = self._search()
        return search.result() if search.done() else None

    def found(self) -> tuple[Device, ...]:
        """Return the devices, once they are known; never empty."""
        return self._search().result()

    def _search(self) -> Future[tuple[Device, ...]]:
        with _lock:
            if self._command not in _searches:
                _searches[self._command] = answer = Future[tuple[Device, ...]]()
                Thread(target=_run, args=(self._command, answer), name="devices", daemon=True).start()
            return _searches[self._command]


# Devices come and go with a restart of the machine, not of a server inside one process.
_searches: dict[tuple[str, ...], Future[tuple[Device, ...]]] = {}
_lock = Lock()


def _run(command: tuple[str, ...], answer: Future[tuple[Device, ...]]) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        devices = tuple(Device(**fields) for fields in json.loads(ended.stdout))
    except (subprocess.SubprocessError, OSError, ValueError, TypeError) as error:
        log.error("Looking for devices failed: %s\n%s", error, getattr(error, "stderr", "") or "")
        devices = ()
    # The processor is always there, and a server without a device would never start what is queued.
    answer.set_result(devices or (processor(),))


def find_devices(wanted: str) -> tuple[Device, ...]:
    """Look for devices in this process; see `Devices` for `wanted`."""
    import torch

    cuda = [
        Device(f"cuda:{index}", "cuda", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())
    ]
    mps = [Device("mps", "mps", "Apple GPU")] if torch.backends.mps.is_available() else []
    cpu = [processor()]
    if wanted == "auto":
        return tuple(cuda or mps or cpu)
    chosen = [device for device in (*cuda, *mps, *cpu) if wanted in (device.spec, device.type)]
    return tuple(chosen or cpu)


def processor() -> Device:
    """Return the CPU, by the name that its maker gave it where the system tells."""
    return Device("cpu", "cpu", _processor_name())


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a device, not a file
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "processor"


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(device) for device in find_devices(sys.argv[1])]))
