"""A score set against what it cost: performance-parameter and performance-memory efficiency, PPE and PME.

After Huang et al. 2024, *Fine-grained Prompt Tuning* (FPT, arXiv:2403.07576, and FPT+, arXiv:2408.02426). Both are at
most the score itself and fall with the cost; they compare methods on the same data, and mean nothing across data sets.
The formulas are those of the authors' code (github.com/YijinHuang/FPT, utils/peme.py).
"""

from __future__ import annotations

import math

from wara.errors import InputError


def ppe(score: float, trained: float, total: float) -> float:
    """Return score * exp(-log10(p / 100 + 1)), p the trained parameters as a share of all in percent.

    Args:
        score: e.g. AUROC, in any unit.
        trained: trained parameters.
        total: parameters that full fine-tuning would train.

    Raises:
        InputError: numbers that cannot be; code ``"efficiency"``.
    """
    _require(trained, total, "trained parameters", "all parameters")
    return score * math.exp(-math.log10(trained / total + 1))


def pme(score: float, memory: float, full_memory: float) -> float:
    """Return score * exp(-log10(m / m_full + 1)).

    Args:
        score: e.g. AUROC, in any unit.
        memory: peak memory of the training.
        full_memory: peak memory of full fine-tuning, in the same unit.

    Raises:
        InputError: numbers that cannot be; code ``"efficiency"``.
    """
    _require(memory, full_memory, "memory", "memory of full fine-tuning")
    return score * math.exp(-math.log10(memory / full_memory + 1))


def _require(part: float, whole: float, of_part: str, of_whole: str) -> None:
    if not (0 <= part < math.inf and 0 < whole < math.inf):
        raise InputError(
            "The efficiency cannot be computed from these numbers", seen=f"{of_part} {part}, {of_whole} {whole}",
            remedy=f"Give {of_part} of at least 0 and {of_whole} above 0.", code="efficiency",
        )  # fmt: skip
