# SPDX-License-Identifier: Apache-2.0
"""The training of a network that hides pictures in images, without surrogates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import DeepHiding
from monai_unlearnable.perturbers.invertible import haar
from monai_unlearnable.training.trainer import Batch, ProtectionTrainer, Strategy
from monai_unlearnable.utils.seeding import derive_seed

__all__ = ["Revealing"]


@dataclass(frozen=True)
class Revealing(Strategy):
    r"""Trains :class:`~monai_unlearnable.perturbers.DeepHiding` so that what it hides can be revealed.

    .. math::
        \min\; w_r \|R(b(x + \epsilon n)) - p_y\|^2 + w_h \|n\|^2 + w_l \|n_{\mathrm{low}}\|^2
        + w_c \|n - \bar n_y\|^2

    means over voxels and images, with the noise n as a fraction of epsilon and a picture p for each class. The picture
    can be revealed after a blur b (R is the network run backwards), and the noise is faint, most of all in the lowest
    wavelet band, and differs little from its mean over the images of the class. The first three are the losses of
    HiNet (Jing et al., Deep Image Hiding by Invertible Network, ICCV 2021). The last stands for the paper's
    concentration of latent features, which compares what a trained network makes of images. The blur is ours: without
    it the network writes pictures into the highest frequencies.

    Pictures are drawn anew in each step, so that the network learns to hide shapes, rather than a sign for each class.

    Args:
        reveal: weight :math:`w_r` of the revealing loss.
        hide: weight :math:`w_h` of the hiding loss.
        low_frequency: weight :math:`w_l` of the wavelet loss.
        concentrate: weight :math:`w_c` of the differences within a class.
        blur: standard deviation of the blur, in voxels; 0 for none.

    Raises:
        InputError: when a weight or the blur is negative.
    """

    reveal: float = 1.0
    hide: float = 0.0
    low_frequency: float = 0.0
    concentrate: float = 0.2
    blur: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise InputError(f"{name} is negative", value=value, limit=0)

    def check(self, trainer: ProtectionTrainer) -> None:
        if not isinstance(trainer.perturber, DeepHiding) or trainer.perturber_optimizer is None:
            raise InputError("revealing trains a network that hides, and needs its optimizer")
        if trainer.penalties:
            raise InputError("a training to reveal takes no penalties")

    def step(self, trainer: ProtectionTrainer, batch: Batch) -> dict[str, float]:
        perturber, optimizer = trainer.perturber, trainer.perturber_optimizer
        assert isinstance(perturber, DeepHiding) and optimizer is not None
        perturber.train()
        optimizer.zero_grad(set_to_none=True)
        hidden = perturber.pictures(derive_seed(trainer.seed, "step", batch.turn))[batch.label]
        with trainer.autocast():
            noise = perturber.hide(batch.image, hidden).float()
            stego = self._blurred(batch.image + perturber.epsilon * noise)
            revealed = perturber.network.reveal(stego)[1].float()
        loss = self.reveal * (revealed - hidden).square().mean() + self._noise_loss(noise, batch.label)
        loss.backward()
        trainer.step_perturber()
        error = float(((revealed > 0) != (hidden > 0)).float().mean())
        largest = perturber.epsilon * float(noise.detach().abs().max())
        return {"loss": float(loss.detach()), "error": error, "linf": largest}

    def _noise_loss(self, noise: Tensor, label: Tensor) -> Tensor:
        """The terms of the noise alone, as a fraction of epsilon."""
        low = haar(noise)[:, : noise.shape[1]] / 2 ** ((noise.ndim - 2) / 2)  # the mean of each block
        members = F.one_hot(label).to(noise)
        means = torch.tensordot(members / members.sum(0).clamp(min=1), noise, ([0], [0]))
        return (
            self.hide * noise.square().mean()
            + self.low_frequency * low.square().mean()
            + self.concentrate * (noise - means[label]).square().mean()
        )

    def _blurred(self, image: Tensor) -> Tensor:
        return GaussianFilter(image.ndim - 2, self.blur).to(image.device)(image) if self.blur else image
