"""What tokens reach each layer of a model, and on which grid they stand: seen by a trial run, not assumed.

A model can state its patch grid, and most of timm's do. Others work in windows or stages of their own grids, put their
tokens in another order, or read a layer's weight without running the layer, so that an adapter there would change
nothing. A few images tell them apart before anything is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid, declared_grid, embedding_of
from wara.tuner.trial import BARS, SeenTokens, Trial, run_trial

# More tokens than this in front of a grid that nothing states are taken for a sign that it is another grid.
_MOST_PREFIX_TOKENS = 8
# Of how much tokens change over the grid, the share that an order by rows leaves between the rows (columns) of a bar
# along them. An order by columns leaves none, one in blocks of 2 x 2 less than a half.
_LEAST_SHARE = 0.6


@dataclass(frozen=True)
class Place:
    """Where the tokens of a layer stand.

    Attributes:
        grid: the grid, with the prefix tokens in front of it.
        stated: whether it is the patch grid that the model states.
        image: the size of image whose grid it is, where the grid grows with the image; None for windows and for
            grids that are stated or given.
    """

    grid: TokenGrid
    stated: bool = False
    image: tuple[int, int] | None = None


def grids_of_layers(model: nn.Module, names: list[str]) -> dict[str, TokenGrid | AdapterError]:
    """Return for each named layer the grid on which its tokens stand, or the reason why there is none.

    Raises:
        AdapterError: the model cannot be run on an image of the size that it states.
    """
    places = places_of_layers(model, names)
    return {name: place.grid if isinstance(place, Place) else place for name, place in places.items()}


def places_of_layers(model: nn.Module, names: list[str]) -> dict[str, Place | AdapterError]:
    """Return for each named layer where its tokens stand, or the reason why that is on no known grid.

    Raises:
        AdapterError: the model cannot be run on an image of the size that it states, or packs patches of any aspect.
    """
    _refuse_packed_patches(model)
    declared = declared_grid(model)
    try:
        trial = run_trial(model, names, images=3)
    except AdapterError:
        if declared is not None and all(p.is_meta for p in model.parameters()):
            # An outline that cannot be run; the model itself will be.
            return dict.fromkeys(names, Place(declared, stated=True))
        raise
    if any(not _is_declared(tokens, trial, declared) for tokens in trial.seen.values()):
        trial = run_trial(model, names)  # a grid that nothing states is looked at twice
    places: dict[str, Place | AdapterError] = {}
    for name in names:
        try:
            places[name] = place_of_layer(model, name, trial)
        except AdapterError as error:
            places[name] = error
    return places


def require_given(model: nn.Module, names: list[str], given: TokenGrid) -> None:
    """Refuse layers that the model does not run, or runs on other tokens than a config gives, where it can be tried.

    Raises:
        AdapterError: the first such layer by name.
    """
    try:
        seen = run_trial(model, names, images=1).seen
    except AdapterError:  # what is given takes the place of what could be seen
        return
    embedding = getattr(embedding_of(model), "patch_embed", None)
    # A model that states its grid and takes images of one size only shows there and then whether the config is right.
    fixed = embedding is not None and getattr(embedding, "strict_img_size", True)
    declared = declared_grid(model)
    for name in names:
        if name not in seen:
            raise AdapterError(f"Layer {name!r}: {_passed_by(model, name)}")
        for shape in seen[name].shapes if fixed else ():
            count = math.prod(shape[:-1])
            if count != given.num_tokens and tuple(shape[-3:-1]) != given[:2]:
                raise AdapterError(
                    f"Layer {name!r}: grid={given[:2]} with num_prefix_tokens={given.num_prefix_tokens} makes "
                    f"{given.num_tokens} tokens, but the model gives it {count}. Use the model's own numbers, or leave "
                    "both out."
                )
            if declared is not None and count == declared.num_tokens and given != declared:
                raise AdapterError(
                    f"Layer {name!r}: grid={given[:2]} with num_prefix_tokens={given.num_prefix_tokens} has as many "
                    f"tokens as the model gives it, but they stand on a grid of {declared.height} x {declared.width} "
                    f"after {declared.num_prefix_tokens} in front. Use the model's own numbers, or leave both out."
                )


def place_of_layer(model: nn.Module, name: str, trial: Trial) -> Place:
    """Return where the tokens of a layer stand.

    In this order: the grid that the model states; the window that a module around the layer states; the rows and
    columns in which the tokens come; a grid of the image's aspect with as many tokens. The trial images must show
    that the tokens stand on it row by row.

    Raises:
        AdapterError: why the tokens of this layer are on no grid that is known.
    """
    tokens = trial.seen.get(name)
    if tokens is None:
        raise AdapterError(_passed_by(model, name))
    if len(tokens.shapes) > 1:
        numbers = " and ".join(str(math.prod(shape[:-1])) for shape in sorted(tokens.shapes))
        raise AdapterError(
            f"it is run on {numbers} tokens in one pass, which is not one grid. Leave it out of target_modules."
        )
    (shape,) = tokens.shapes
    if len(shape) == 1:
        raise AdapterError("it is given one token an image, not a grid. Leave it out of target_modules.")
    declared = declared_grid(model)
    if len(shape) > 2:
        place, whole = _of_planes(shape, tokens, trial)
    elif declared is not None and _is_declared(tokens, trial, declared):
        prefix = shape[0] - declared.height * declared.width
        place, whole = Place(TokenGrid(declared.height, declared.width, prefix), stated=True), True
    elif (window := _window_around(model, name, shape[0])) is not None:
        place, whole = Place(TokenGrid(*window, 0)), False
    else:
        place, whole = _of_aspect(shape[0], trial), True
        if tokens.batch != trial.images and not place.grid.num_prefix_tokens and not _seen(tokens, place.grid, whole):
            place, whole = Place(place.grid), False  # pieces of an image, each with a grid of its own
            _require_row_by_row(tokens, place, whole, must_be_seen=True)
            return place
    _require_row_by_row(tokens, place, whole, must_be_seen=whole and not place.stated and len(shape) == 2)
    return place


def _is_declared(tokens: SeenTokens, trial: Trial, declared: TokenGrid | None) -> bool:
    """Whether a layer is given the patch tokens that the model states, with or without its prefix tokens."""
    if declared is None or tokens.batch != trial.images or len(tokens.shapes) != 1:
        return False
    (shape,) = tokens.shapes
    return len(shape) == 2 and shape[0] in (declared.height * declared.width, declared.num_tokens)


def _of_planes(shape: tuple[int, ...], tokens: SeenTokens, trial: Trial) -> tuple[Place, bool]:
    """Tokens that come as (..., rows, columns, channels), an image or a window each."""
    height, width = shape[-3:-1]
    whole = len(shape) == 3 and tokens.batch == trial.images
    exact = (width * trial.size[0] / trial.size[1], height * trial.size[1] / trial.size[0])
    if (whole or len(shape) > 3) and abs(height - exact[0]) >= 1 and abs(width - exact[1]) >= 1:
        raise AdapterError(
            f"its tokens come as {tuple(shape[:-1])}, which is no picture of an image of {trial.size[0]} x "
            f"{trial.size[1]} pixels. Leave it out of target_modules."
        )
    return Place(TokenGrid(height, width, 0), image=trial.size if whole else None), whole


def _of_aspect(count: int, trial: Trial) -> Place:
    """A grid of the image's aspect, with what is left over in front of it."""
    divisor = math.gcd(*trial.size)
    rows, columns = trial.size[0] // divisor, trial.size[1] // divisor
    times = math.isqrt(count // (rows * columns))
    prefix = count - times * times * rows * columns
    if not times or prefix > _MOST_PREFIX_TOKENS:
        raise AdapterError(
            f"it is given {count} tokens an image of {trial.size[0]} x {trial.size[1]} pixels, and nothing says on "
            "which grid they stand. Give grid=(rows, columns) and num_prefix_tokens in the config, or leave it out of "
            "target_modules."
        )
    return Place(TokenGrid(times * rows, times * columns, prefix), image=trial.size)


def _require_row_by_row(tokens: SeenTokens, place: Place, whole: bool, must_be_seen: bool) -> None:
    """Refuse a layer whose tokens the trial images show in another order, or do not show where they must.

    Raises:
        AdapterError: with the grid looked for.
    """
    seen = _seen(tokens, place.grid, whole)
    if seen is False or (must_be_seen and seen is None):
        grid = place.grid
        after = f" after {grid.num_prefix_tokens} in front" if grid.num_prefix_tokens else ""
        raise AdapterError(
            f"its {grid.num_tokens} tokens do not stand row by row on a grid of {grid.height} x {grid.width}{after}. "
            "Leave it out of target_modules."
        )


def _seen(tokens: SeenTokens, grid: TokenGrid, whole: bool) -> bool | None:
    """Whether the tokens stand row by row on a grid in every call of the layer; None where that cannot be seen."""
    calls = [_stands_row_by_row(change, grid, whole) for change in tokens.changes] or [None]
    return False if False in calls else None if None in calls else True


def _stands_row_by_row(change: Tensor | None, grid: TokenGrid, whole: bool) -> bool | None:
    """Whether bars across the image are seen as rows and columns of the grid; None where nothing is seen.

    Args:
        change: (images - 1, tokens) how much tokens change with each bar.
        grid: the grid looked for.
        whole: whether it is one of the whole image, so that bars have a place on it, or of a window.
    """
    if change is None or (not change.is_meta and not bool(torch.isfinite(change).all())):
        return None
    if change.is_meta:
        return True  # an outline without weights; its order is checked when the model itself is adapted
    prefix, sides = grid.num_prefix_tokens, grid[:2]
    looked = max(sides) == 1
    for (axis, middle), of_tokens in zip(BARS, change, strict=False):
        of_patches = of_tokens[prefix:].reshape(sides)
        if sides[axis] == 1 or (sides[axis] == 2 and not whole):  # a bar may lie on both lines of a window of two
            continue
        looked = True
        if float(of_patches.max()) == 0:
            return None
        if prefix and float(of_tokens[:prefix].max()) > 0.5 * float(of_patches.max()):
            return False
        along = of_patches.mean(dim=1 - axis)
        if float(along.var(correction=0)) < _LEAST_SHARE * float(of_patches.var(correction=0)):
            return False
        # Half a token for where a bar falls, the rest for convolutions in front that reach further.
        tolerance = min(2.1 / sides[axis], 0.25)
        if whole and abs((int(along.argmax()) + 0.5) / sides[axis] - middle) > tolerance:
            return False
    return looked or None


def _window_around(model: nn.Module, name: str, count: int) -> tuple[int, int] | None:
    """Return the window that the nearest module around a layer states, if it has as many tokens."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        window = getattr(model.get_submodule(".".join(parts[:end])), "window_size", None)
        if isinstance(window, int):
            window = (window, window)
        if isinstance(window, tuple | list) and len(window) == 2 and math.prod(window) == count:
            return int(window[0]), int(window[1])
    return None


def _passed_by(model: nn.Module, name: str) -> str:
    around = model.get_submodule(name.rpartition(".")[0]) if "." in name else model
    message = (
        f"the model never runs it ({type(around).__name__} reads its weight itself), so an adapter there would change "
        "nothing. Give target_modules with a layer that is run"
    )
    # With what it is in: a patch embedding's convolution is called proj as well.
    inside = ".".join([*name.split(".")[-2:-1], "proj"])
    return message + (f", e.g. [{inside!r}]." if isinstance(getattr(around, "proj", None), nn.Linear) else ".")


def _refuse_packed_patches(model: nn.Module) -> None:
    for module in model.modules():
        if type(module).__name__ == "NaFlexEmbeds":
            raise AdapterError(
                f"The model {type(model).__name__} packs patches of images of any aspect, so its tokens stand on no "
                "one grid. Give grid=(rows, columns) and num_prefix_tokens in the config, and images of one size."
            )
