"""What jobs can run on: one slot a device."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A device by torch's name for it, its kind (cpu, cuda, mps) and a name to show."""

    spec: str
    type: str
    name: str


@functools.cache
def find_devices(wanted: str) -> tuple[Device, ...]:
    """Return the devices that jobs may use.

    Args:
        wanted: ``auto`` for every CUDA device, else Apple's GPU, else the processor; or one device's name.
    """
    import torch  # seconds to import, so not before somebody asks

    cuda = [
        Device(f"cuda:{index}", "cuda", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())
    ]
    mps = [Device("mps", "mps", "Apple GPU")] if torch.backends.mps.is_available() else []
    cpu = [Device("cpu", "cpu", _processor_name())]
    if wanted == "auto":
        return tuple(cuda or mps or cpu)
    chosen = [device for device in (*cuda, *mps, *cpu) if wanted in (device.spec, device.type)]
    return tuple(chosen or cpu)


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a device, not a file
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "processor"
