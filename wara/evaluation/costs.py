"""What a run's score cost: share of trained parameters, time, memory, and both efficiencies beside the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wara.evaluation.efficiency import pme, ppe

# What a run must share with the whole network's training for their peaks of memory to be compared.
_ALIKE = (("backbone", "sha256"), ("data", "fingerprint"), ("image", "size"), ("batch_size",), ("device",))


def all_parameters(recipe: Mapping[str, Any]) -> int:
    """Return how many parameters full fine-tuning would train: all of the backbone's, with the head of these classes.

    Args:
        recipe: what recipe.json holds.

    Raises:
        InputError: an architecture that this installation does not know.
    """
    from wara.backbones import outline_backbone

    outline = outline_backbone(recipe["backbone"]["name"], image_size=recipe["image"]["size"])
    head = sum(p.numel() for p in outline.model.get_submodule(outline.head).parameters())
    rest = sum(p.numel() for p in outline.model.parameters()) - head
    return rest + head // 2 * len(recipe["classes"])  # the outline's head has two classes


def memory_comparable(recipe: Mapping[str, Any], full: Mapping[str, Any]) -> bool:
    """Whether another run is the whole network's training of the same data, backbone, sizes and kind of device."""
    return full.get("method") == "full" and all(_at(recipe, path) == _at(full, path) for path in _ALIKE)


def _at(recipe: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = recipe
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def costs(metrics: Mapping[str, Any], total: int | None, full_memory: float | None) -> dict[str, Any]:
    """Return a run's costs and its test AUROC set against them.

    Args:
        metrics: what metrics.json holds.
        total: parameters that full fine-tuning would train; None where that is not known.
        full_memory: peak memory in MiB of the comparable training of the whole network; None where there is none.

    Returns:
        ``auroc`` (with its interval), ``trained``, ``total``, ``share`` (trained of all), ``seconds``,
        ``images_per_second``, ``memory_mb``, ``full_memory_mb``, ``ppe`` and ``pme`` (see
        :mod:`wara.evaluation.efficiency`); each None where it is not known.
    """
    area = (metrics.get("test") or {}).get("auroc") or {}
    score, trained, memory = area.get("value"), metrics.get("trainable_parameters"), metrics.get("peak_memory_mb")
    return {
        "auroc": {name: area.get(name) for name in ("value", "low", "high")},
        "trained": trained,
        "total": total,
        "share": None if not total or trained is None else trained / total,
        "seconds": metrics.get("seconds"),
        "images_per_second": metrics.get("images_per_second"),
        "memory_mb": memory,
        "full_memory_mb": full_memory,
        "ppe": None if score is None or trained is None or not total else ppe(score, trained, total),
        "pme": None if score is None or memory is None or not full_memory else pme(score, memory, full_memory),
    }
