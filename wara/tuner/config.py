"""The options of WaRA and Tiny-WaRA as PEFT configs, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peft import PeftConfig

from wara.tuner.checks import (
    require_choice,
    require_count,
    require_flag,
    require_grid,
    require_indices,
    require_names,
    require_number,
    require_wavelet,
)
from wara.tuner.errors import AdapterError
from wara.tuner.matrices import MODES

GAINS = ("none", "subband", "subband-rank")
PROJECTIONS = ("gaussian", "unit")
ACTIVATIONS = ("none", "gelu", "soft-threshold")


class MethodName(str):
    """A PEFT type that PEFT's closed enum does not list: a string with the two attributes an enum member has."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The name, as an enum member's value."""
        return str(self)

    @property
    def name(self) -> str:
        """The name, as an enum member's name."""
        return str(self)


WARA = MethodName("WARA")
TINY_WARA = MethodName("TINY_WARA")


@dataclass
class _SubbandConfig(PeftConfig):  # type: ignore[misc]  # PEFT is untyped
    """What WaRA and Tiny-WaRA share: where the adapter goes and what happens to the subbands.

    Args:
        r: rank of the update, 1 up to the smaller side of the adapted layer.
        wara_alpha: the update is scaled by ``wara_alpha / r``.
        wara_dropout: probability with which inputs of the adapter are dropped while training, 0 up to (not with) 1.
        wavelet: a discrete wavelet of PyWavelets.
        levels: depth of the decomposition; None takes 2, or the deepest that the grid allows when that is less.
        mode: border mode, see `SubbandTransform`.
        gains: ``"none"``, one learned gain a ``"subband"``, or one a subband and rank (``"subband-rank"``). Gains start
            at 1; class and register tokens, which have no subbands, take the gain of the coarsest one.
        activation: function of the coefficients: ``"none"``, ``"gelu"``, or ``"soft-threshold"`` (wavelet shrinkage
            with one learned threshold a subband).
        target_modules: names of the linear layers to adapt; None adapts every attention's ``qkv``.
        modules_to_save: further modules that are trained and saved whole, usually the head.
        layers_to_transform: indices of the blocks to adapt; None adapts all.
        layers_pattern: name of the list of blocks, with ``layers_to_transform``; None finds it.
        exclude_modules: names of layers to leave alone.
        grid: rows and columns of the token grid; None reads them from the model.
        num_prefix_tokens: class and register tokens in front of the grid; None reads it from the model.
        init_weights: True starts the update at zero (the usual way), so that the model starts as the base model; False
            draws what is learned at random, for tests.
    """

    r: int = field(default=8, metadata={"help": "Rank of the update."})
    wara_alpha: float = field(default=16, metadata={"help": "The update is scaled by wara_alpha / r."})
    wara_dropout: float = field(default=0.0, metadata={"help": "Dropout on the adapter's input."})
    wavelet: str = field(default="haar", metadata={"help": "Discrete wavelet, by its name in PyWavelets."})
    levels: int | None = field(default=None, metadata={"help": "Depth of the wavelet decomposition."})
    mode: str = field(default="symmetric", metadata={"help": "Border mode of the transform."})
    gains: str = field(default="subband", metadata={"help": "Learned gains: none, subband or subband-rank."})
    activation: str = field(default="none", metadata={"help": "none, gelu or soft-threshold."})
    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Names of layers to adapt."})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Names of layers to leave."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules trained and saved whole."})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Blocks to adapt."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "Name of the list of blocks."})
    grid: tuple[int, int] | None = field(default=None, metadata={"help": "Token grid (rows, columns)."})
    num_prefix_tokens: int | None = field(default=None, metadata={"help": "Tokens in front of the grid."})
    init_weights: bool = field(default=True, metadata={"help": "Whether the update starts at zero."})

    def __post_init__(self) -> None:
        """Bring the fields into one form and check their values."""
        super().__post_init__()
        self._check()
        if isinstance(self.target_modules, list | tuple):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]  # PEFT matches sets by suffix
        if isinstance(self.exclude_modules, list | tuple):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]
        if self.layers_to_transform is not None and not isinstance(self.layers_to_transform, int):
            self.layers_to_transform = list(self.layers_to_transform)
        if self.grid is not None:
            self.grid = (self.grid[0], self.grid[1])  # a file has it as a list

    def _check(self) -> None:
        require_count("r", self.r, 1, "Use a rank of 1 or more, e.g. 8.")
        require_number(
            "wara_alpha",
            self.wara_alpha,
            "a number above 0",
            0,
            math.inf,
            "()",
            "Use e.g. 16; twice the rank is usual.",
        )
        require_number(
            "wara_dropout", self.wara_dropout, "at least 0 and below 1", 0, 1, "[)", "Use 0 for none, or e.g. 0.1."
        )
        require_wavelet(self.wavelet)
        if self.levels is not None:
            require_count("levels", self.levels, 1, "Use 1 or more, or None to take 2 where the grid allows it.")
        require_choice("mode", self.mode, MODES)
        require_choice("gains", self.gains, GAINS)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_names("target_modules", self.target_modules, empty=False)
        require_names("exclude_modules", self.exclude_modules)
        require_names("modules_to_save", self.modules_to_save, pattern=False)
        require_indices("layers_to_transform", self.layers_to_transform)
        require_names("layers_pattern", self.layers_pattern)
        require_grid(self.grid)
        if self.num_prefix_tokens is not None:
            require_count("num_prefix_tokens", self.num_prefix_tokens, 0, "Use 0 or more, or None to read the model's.")
        require_flag("init_weights", self.init_weights)
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise AdapterError(
                f"layers_to_transform={self.layers_to_transform!r} goes with a list of names, but target_modules is "
                f"the regular expression {self.target_modules!r}. Use a list, or put the blocks into the expression."
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise AdapterError(
                f"layers_pattern={self.layers_pattern!r} says where layers_to_transform counts, which is not given. "
                "Use both or none."
            )


@dataclass
class WaraConfig(_SubbandConfig):
    """Options of WaRA (wavelet low-rank adaptation, arXiv:2506.24092).

    Fields that both methods share (rank, wavelet, gains, where the adapter goes) are described in `_SubbandConfig`.

    Raises:
        AdapterError: a field has a value that cannot be used.
    """

    def __post_init__(self) -> None:
        """Check the fields and set the method's name."""
        super().__post_init__()
        self.peft_type = WARA


@dataclass
class TinyWaraConfig(_SubbandConfig):
    """Options of Tiny-WaRA: a fixed basis from the pretrained weight, and only `u` numbers a layer learned.

    Fields that both methods share (rank, wavelet, gains, where the adapter goes) are described in `_SubbandConfig`.

    Args:
        u: length of the learned vector of each layer, 1 or more.
        projection_seed: seed of the fixed projections.
        save_projection: whether the basis and the projections are saved with the adapter (some 100 kB a layer, and the
            outputs are then the same on every machine), or made anew from the pretrained weight and the seed.
        projection: ``"gaussian"``, drawn from the seed, or ``"unit"``, the first `u` unit matrices: with u = r * r the
            whole R is learned, as in LoRA-XS.
        weight_tying: share of layers that share their v with others: 0 gives every layer its own, 1 all layers one.

    Raises:
        AdapterError: a field has a value that cannot be used.
    """

    r: int = field(default=16, metadata={"help": "Rank of the truncated SVD of the pretrained weight."})
    u: int = field(default=64, metadata={"help": "Length of the learned vector of each layer."})
    projection_seed: int = field(default=42, metadata={"help": "Seed of the fixed projections."})
    save_projection: bool = field(default=True, metadata={"help": "Whether basis and projections are saved."})
    projection: str = field(default="gaussian", metadata={"help": "Fixed projections: gaussian or unit."})
    weight_tying: float = field(default=0.0, metadata={"help": "Share of layers that share their vector, 0 to 1."})

    def __post_init__(self) -> None:
        """Check the fields and set the method's name."""
        super().__post_init__()
        self.peft_type = TINY_WARA
        require_count("u", self.u, 1, "Use 1 or more, e.g. 64.")
        require_count("projection_seed", self.projection_seed, 0, "Use e.g. 42.")
        require_flag("save_projection", self.save_projection)
        require_choice("projection", self.projection, PROJECTIONS)
        require_number("weight_tying", self.weight_tying, "a share of 0 to 1", 0, 1, "[]", "Use 0 for none, 1 for all.")
        if self.projection == "unit" and self.u > self.r * self.r:
            raise AdapterError(
                f"u={self.u} is more than the r * r = {self.r * self.r} numbers of the matrix between the bases. Use "
                f"u={self.r * self.r} or less with projection='unit'."
            )
