"""What the loss asks of frozen weights before training: their gradients under a head fitted to the training images."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from wara.backbones import Backbone
from wara.data.batches import Batches
from wara.training.class_token import answering
from wara.training.device import set_fused_attention

# Of the head's weights, on standardised features: few images and many features fit any head, whose loss is then 0.
_SHRINKAGE = 0.01


def weight_gradients(backbone: Backbone, batches: Batches, precision: str) -> dict[str, Tensor]:
    """Return the gradient (out, in) of every linear layer's weight in the blocks, by the layer's name.

    The loss is the cross-entropy of all images as they are, under a logistic regression on the frozen features. Head
    and weights are afterwards as they were.

    Args:
        backbone: as it was loaded, without an adapter.
        batches: the training images.
        precision: of the passes.
    """
    model = cast(Any, backbone.model)
    head = cast(nn.Linear, model.get_submodule(backbone.head))
    layers = {
        name: module
        for name, module in model.named_modules()
        if name.startswith("blocks.") and isinstance(module, nn.Linear)
    }
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    kept = {name: value.detach().clone() for name, value in head.state_dict().items()}
    model.eval()
    model.requires_grad_(False)
    set_fused_attention(model, batches.device, training=True)
    with torch.no_grad(), answering(model, batches.device, precision):
        found = [model.forward_head(model.forward_features(images), pre_logits=True).float().cpu()
                 for images, _ in batches.evaluation()]  # fmt: skip
    weight, bias = fitted_head(torch.cat(found).numpy(), batches.targets.cpu().numpy(), head.out_features)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    for images, targets in batches.evaluation():
        with answering(model, batches.device, precision):
            logits = model(images)
        (F.cross_entropy(logits.float(), targets, reduction="sum") / len(batches)).backward()
    gradients = {name: cast(Tensor, layer.weight.grad).detach().float() for name, layer in layers.items()}
    for name, parameter in model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(before[name])
    head.load_state_dict(kept)
    return gradients


def fitted_head(
    features: np.ndarray, targets: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (k, d) and bias (k,) of a logistic regression, for features (n, d) as they are."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=_SHRINKAGE, max_iter=1000).fit((features - mean) / spread, targets)
    weight, bias = fitted.coef_ / spread, fitted.intercept_ - (fitted.coef_ / spread) @ mean
    if len(weight) == 1:  # two classes have one row, the margin of the second over the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    whole, offset = np.zeros((classes, features.shape[1])), np.full(classes, -10.0)
    whole[fitted.classes_], offset[fitted.classes_] = weight, bias
    return whole.astype(np.float32), offset.astype(np.float32)
