"""WaRA and Tiny-WaRA as PEFT tuners. Imports nothing else of the project."""

from wara.tuner.adapted import AdaptedLayer, adapted_layers
from wara.tuner.config import TinyWaraConfig, WaraConfig
from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid, token_grid
from wara.tuner.model import TinyWaraModel, WaraModel, register
from wara.tuner.subbands import SubbandTransform

__all__ = [
    "AdaptedLayer",
    "AdapterError",
    "SubbandTransform",
    "TinyWaraConfig",
    "TinyWaraModel",
    "TokenGrid",
    "WaraConfig",
    "WaraModel",
    "adapted_layers",
    "register",
    "token_grid",
]

register()
