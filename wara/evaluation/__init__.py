"""How good a model is: metrics with intervals, their figures, and the model card."""

from wara.evaluation.metrics import auroc, evaluate

__all__ = ["auroc", "evaluate"]
