"""How to read each figure of the analysis: two or three plain sentences, computed from the figure's own data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.analysis.bands import describe_band, layer_labels
from wara.analysis.energy_figure import energy_rows
from wara.analysis.spectrum_figure import chosen_layer
from wara.analysis.style import METHOD_LABELS

Data = Mapping[str, Any]
_NOTABLE = 0.03  # a difference in share under three points is called none


def read_subband_energy(data: Data, *, of: str = "update", cls: str | None = None) -> str:
    """Say in plain words what the heatmap of subband energy shows.

    Args:
        data: result of :meth:`wara.analysis.subband_energy.SubbandEnergy.result`.
        of: ``"update"`` or ``"tokens"``, as drawn.
        cls: a class's name, as drawn.

    Raises:
        ValueError: if ``of`` or ``cls`` is unknown.
    """
    shares = shares_by_scale(data, energy_rows(data, of, cls))
    whose = "" if cls is None else f" for images of the class '{cls}'"
    what = "what fine-tuning adds" if of == "update" else "what the layer is given"
    how = f"Each row is one layer and adds up to 100 %; the stronger a cell's colour, the more of {what} has that size."
    if shares is None:
        nothing = "nothing was added yet" if of == "update" else "no image was looked at"
        return f"{how} There is nothing to see{whose}: {nothing}."
    parts = _enumerate([f"{100 * share:.0f} % is {scale}" for scale, share in shares.items()])
    found = f"On average over the layers{whose}, {parts}."
    given = shares_by_scale(data, energy_rows(data, "tokens", cls)) if of == "update" else None
    return " ".join(part for part in (how, found, _leaning(shares, given)) if part)


def shares_by_scale(data: Data, rows: npt.NDArray[np.float64]) -> dict[str, float] | None:
    """Return the mean share of each scale in words, coarse to fine; None where no layer has energy."""
    known = rows[np.isfinite(rows).all(axis=1)]
    if not len(known):
        return None
    shares: dict[str, float] = {}
    for name, share in zip(data["bands"], known.mean(axis=0), strict=True):
        band = describe_band(name, data["levels"], data["patch_size"])
        words = "coarse" if band.kind == "A" else band.scale
        scale = f"{words} ({band.size})"
        shares[scale] = shares.get(scale, 0.0) + float(share)
    return shares


def _leaning(shares: Mapping[str, float], given: Mapping[str, float] | None) -> str:
    """Say whether the update weighs the scales as the tokens do or leans towards some."""
    if given is None:
        return ""
    differences = {scale: shares[scale] - given[scale] for scale in shares}
    more = max(differences, key=differences.__getitem__)
    less = min(differences, key=differences.__getitem__)
    if max(differences[more], -differences[less]) < _NOTABLE:
        return "That is the mix which the layers are given anyway: fine-tuning prefers no scale of detail."
    return (
        f"Compared with what the layers are given, fine-tuning leans towards {more} by {100 * differences[more]:.0f} "
        f"points and away from {less} by {-100 * differences[less]:.0f}."
    )


def read_singular_spectrum(data: Data, *, layer: str | None = None, compare: Data | None = None) -> str:
    """Say in plain words what the figure of singular spectra shows.

    Args:
        data: result of :func:`wara.analysis.singular_spectrum.singular_spectrum`.
        layer: the layer drawn on the right; None takes the one that changed most.
        compare: the other run's data, as drawn.

    Raises:
        ValueError: if ``layer`` is unknown.
    """
    entry = data["layers"][chosen_layer(data, layer)]
    rank = data["rank"]
    ranks = {name: e["effective_rank"] for name, e in zip(_labels(data), data["layers"], strict=True)}
    known = {name: value for name, value in ranks.items() if value is not None}
    how = f"Each layer's change may use up to {rank} independent directions; the dots show how many it really uses."
    if not known:
        return f"{how} Nothing was changed yet."
    mean = sum(known.values()) / len(known)
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    span = f", from {known[low]:.1f} ({low}) to {known[high]:.1f} ({high})" if len(known) > 1 else ""
    found = f"Here it is {mean:.1f} on average{span}: {_use_of_rank(mean, rank)}."
    size = entry["relative_norm"]
    label = _labels(data)[data["layers"].index(entry)]
    strength = "" if size is None else f" In {label} the change is {_percent(size)} as strong as the pretrained weight."
    return f"{how} {found}{strength}{_compared(data, compare, mean)}"


def _labels(data: Data) -> list[str]:
    return layer_labels([entry["name"] for entry in data["layers"]])[0]


def _use_of_rank(mean: float, rank: int) -> str:
    if rank == 1:
        return "with rank 1 there is only one"
    used = mean / rank
    if used > 0.75:
        return "most of what the rank allows is used"
    if used < 0.4:
        return "much of the rank is hardly used, and a smaller one may do as well"
    return "a good part of what the rank allows is used"


def _compared(data: Data, compare: Data | None, mean: float) -> str:
    ranks = [e["effective_rank"] for e in compare["layers"] if e["effective_rank"] is not None] if compare else []
    if compare is None or not ranks:
        return ""
    other = METHOD_LABELS.get(compare["method"], compare["method"])
    name = "The other run" if compare["method"] == data["method"] else other
    return f" {name} uses {sum(ranks) / len(ranks):.1f} of {compare['rank']}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"


def _enumerate(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def read_randomisation(found: Data) -> str:
    """Say in one plain sentence whether the maps depend on what was learned."""
    last = found["stages"][-1]["correlation"]
    nearby = found["nearby"]
    if last is None or nearby is None:
        return "Whether the maps depend on what was learned could not be checked: they are empty."
    if last < 0.5 * nearby:
        verdict = "the maps show what was learned, not only what is in the picture"
    else:
        verdict = "the maps follow the picture more than what was learned, so trust them little"
    return (
        f"Checked on {found['images']} images: with the trained weights shuffled the maps agree with the real ones by "
        f"{last:.2f}, with a hardly changed image by {nearby:.2f} (1 is the same order of all cells, 0 is chance); "
        f"{verdict}."
    )
