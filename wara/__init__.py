"""WaRA Studio's library: wavelet low-rank adaptation of vision transformers, and the study around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wara.tuner import SubbandTransform, TinyWaraConfig, WaraConfig

__version__ = "0.1.0"
__all__ = ["SubbandTransform", "TinyWaraConfig", "WaraConfig", "__version__"]


def __getattr__(name: str) -> Any:
    # torch and PEFT take seconds to import; rooms that read data or serve errors should not wait for them.
    if name in __all__:
        import wara.tuner

        return getattr(wara.tuner, name)
    raise AttributeError(f"module 'wara' has no attribute {name!r}")
