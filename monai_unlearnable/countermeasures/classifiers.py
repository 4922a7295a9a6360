# SPDX-License-Identifier: Apache-2.0
"""Simple classifiers of vectors, by scikit-learn."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Classifier", "fit_classifier"]

RAREST = 1e-10  # probability of what was never seen, so that it has a logarithm


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier of vectors.

    Args:
        scaler: scikit-learn's scaler of the features.
        model: scikit-learn's classifier of scaled features.
        classes: number of classes, those that it never saw included.
    """

    scaler: Any
    model: Any
    classes: int

    @property
    def weights(self) -> Tensor:
        """Directions (directions, features) that a linear classifier uses."""
        return torch.as_tensor(self.model.coef_, dtype=torch.float32)

    def log_probabilities(self, values: Tensor) -> Tensor:
        """Logarithms of the probability of each class, (rows, classes); very low for those that it never saw."""
        found = np.zeros((len(values), self.classes))
        found[:, self.model.classes_] = self.model.predict_proba(self.scaler.transform(values.numpy()))
        return torch.from_numpy(np.log(found.clip(min=RAREST)))


def fit_classifier(
    values: Tensor,
    targets: Tensor,
    hidden: int = 0,
    by_feature: bool = False,
    penalty: float = 1.0,
    iterations: int = 50,
    seed: int = 0,
) -> Classifier:
    """Fit scikit-learn's logistic regression, or its network with one hidden layer, to all rows by L-BFGS.

    Classes count alike, however many rows they have. A row that is of several classes is given once for each.

    Args:
        values: features of each row, (rows, features).
        targets: fraction of each class, (rows, classes).
        hidden: units of the hidden layer; 0 for logistic regression.
        by_feature: whether each feature has its own scale; else all have one, which keeps directions.
        penalty: factor of half the squared weights of all classes.
        iterations: largest number of steps.
        seed: random seed of the first weights, where there is a hidden layer.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    fractions = targets.numpy().astype(np.float64)
    present = fractions.sum(0) > 0
    scaler = StandardScaler().fit(values.numpy())
    if not by_feature:
        scaler.scale_ = np.full_like(scaler.scale_, max(math.sqrt(scaler.var_.mean()), 1e-6))
    rows, classes = np.nonzero(fractions)
    balance = len(values) / (present.sum() * fractions.sum(0).clip(min=1e-9))
    model: Any
    if present.sum() < 2:
        model = DummyClassifier(strategy="prior")
    elif hidden:
        model = MLPClassifier((hidden,), solver="lbfgs", alpha=penalty, max_iter=iterations, random_state=seed % 2**32)
    else:  # of two classes scikit-learn keeps the difference of their weights, whose square counts half
        model = LogisticRegression(C=(2 if present.sum() == 2 else 1) / penalty, tol=1e-6, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few steps are wanted
        scaled, weights = scaler.transform(values.numpy())[rows], (fractions * balance)[rows, classes]
        model.fit(scaled, classes, sample_weight=weights)
    return Classifier(scaler, model, fractions.shape[1])
