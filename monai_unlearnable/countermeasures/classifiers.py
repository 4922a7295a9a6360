# SPDX-License-Identifier: Apache-2.0
"""Linear and two-layer classifiers, and how well their scores tell two groups apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_unlearnable.seeding import isolated_seed

__all__ = ["Classifier", "area_under_curve", "fit_classifier"]


class Classifier(nn.Module):
    """One or two linear layers on centered and scaled features.

    Args:
        values: (rows, features) that mean and scale are taken from.
        classes: number of outputs.
        hidden: units of the hidden layer; 0 for a linear classifier.
        by_feature: whether each feature has its own scale; else one scale for all, which keeps directions.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, classes: int, hidden: int = 0, by_feature: bool = False) -> None:
        super().__init__()
        spread = values.std(0, correction=0)
        self.register_buffer("mean", values.mean(0))
        self.register_buffer("scale", (spread if by_feature else (spread**2).mean().sqrt()).clamp(min=1e-6))
        features = values.shape[1]
        self.first = nn.Sequential(nn.Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.last = nn.Linear(hidden or features, classes)
        if not hidden:
            nn.init.zeros_(self.last.weight)

    def forward(self, values: Tensor) -> Tensor:
        return self.last(self.first(self.normalize(values)))

    def normalize(self, values: Tensor) -> Tensor:
        """Centered and scaled features."""
        return (values - self.mean) / self.scale


def fit_classifier(
    values: Tensor,
    targets: Tensor,
    hidden: int = 0,
    by_feature: bool = False,
    penalty: float = 1.0,
    iterations: int = 50,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Classifier:
    """Fit a classifier to all rows by L-BFGS; classes count alike, however many rows they have.

    Args:
        values: (rows, features).
        targets: (rows, classes), share of each class.
        hidden: units of the hidden layer; 0 for logistic regression.
        by_feature: whether each feature has its own scale.
        penalty: of half the squared weights, divided by the number of rows, as in scikit-learn with ``C=1/penalty``.
        iterations: at most so many steps.
        seed: of the first weights, where there is a hidden layer.
        device: where to compute.
    """
    values, targets = values.to(device), targets.to(device)
    with isolated_seed(seed):
        model = Classifier(values.cpu(), targets.shape[1], hidden, by_feature).to(device)
    share = targets.mean(0)
    weight = torch.where(share > 0, 1 / (share.clamp(min=1e-9) * int((share > 0).sum())), 0.0)
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    normal = model.normalize(values)

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model.last(model.first(normal)), targets, weight)
        loss = loss + penalty / 2 / len(values) * torch.stack([(w**2).sum() for w in weights]).sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return model.eval().requires_grad_(False)


def area_under_curve(scores: NDArray, positive: NDArray, weights: NDArray | None = None) -> float:
    """Probability that a positive scores higher than a negative, ties counting half (Mann and Whitney).

    Args:
        scores: (n,).
        positive: (n,), truth.
        weights: (n,), how often each counts; once by default.

    Returns:
        0 to 1; NaN where one of the groups is empty.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    ranks = np.unique(scores, return_inverse=True)[1]
    above = np.bincount(ranks, np.where(positive, weights, 0))
    below = np.bincount(ranks, np.where(positive, 0, weights))
    pairs = above.sum() * below.sum()
    return float((above * (np.cumsum(below) - below / 2)).sum() / pairs) if pairs else float("nan")
