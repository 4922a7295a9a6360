# SPDX-License-Identifier: Apache-2.0
"""Denoising that looks at the whole image, by scikit-image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from monai_unlearnable.countermeasures.channels import UnitTransform, UnitTransformd, at_least

__all__ = [
    "NonLocalMeans",
    "NonLocalMeansD",
    "NonLocalMeansDict",
    "NonLocalMeansd",
    "TotalVariation",
    "TotalVariationD",
    "TotalVariationDict",
    "TotalVariationd",
]


class TotalVariation(UnitTransform):
    """Total variation denoising (Chambolle, J. Math. Imaging Vis. 2004): flat regions, sharp edges.

    Args:
        weight: of smoothness against likeness to the image; 0 changes nothing. scikit-image's own default is 0.1.
        iterations: at most so many.

    Raises:
        InputError: when ``weight`` is negative or there is no iteration.
    """

    def __init__(self, weight: float = 0.1, iterations: int = 200) -> None:
        at_least("weight", weight, 0)
        at_least("iterations", iterations, 1)
        self.weight, self.iterations = weight, iterations

    def change(self, channel: NDArray) -> NDArray:
        if self.weight == 0:
            return channel
        return np.asarray(denoise_tv_chambolle(channel, weight=self.weight, max_num_iter=self.iterations))


class NonLocalMeans(UnitTransform):
    """The average of sites whose surroundings look alike (Buades et al., CVPR 2005; fast as by Darbon et al., 2008).

    Args:
        h: how different patches may be, root mean square in unit intensity; 0 changes nothing. scikit-image advises
            about 0.8 times the standard deviation of the noise.
        patch_size: sites along the side of a patch; an odd number. scikit-image's fast variant leaves out the first of
            them.
        patch_distance: how far to look for similar patches, in sites. Coupé et al. (IEEE TMI 2008) use patches of 3 and
            a distance of 5 for MR volumes.

    Raises:
        InputError: when a number is out of range.
    """

    def __init__(self, h: float = 0.08, patch_size: int = 3, patch_distance: int = 3) -> None:
        at_least("h", h, 0)
        at_least("patch_size", patch_size, 1)
        at_least("patch_distance", patch_distance, 1)
        self.h, self.patch_size, self.patch_distance = h, patch_size, patch_distance

    def change(self, channel: NDArray) -> NDArray:
        if self.h == 0:
            return channel
        denoised = denoise_nl_means(channel, self.patch_size, self.patch_distance, self.h, fast_mode=True)
        return np.asarray(denoised).reshape(channel.shape)  # axes of a single site are dropped


class TotalVariationd(UnitTransformd):
    """Dictionary version of :class:`TotalVariation`.

    Args:
        keys: images in [0, 1].
        allow_missing_keys: do not raise where a key is absent.
        options: arguments of :class:`TotalVariation`, by name.
    """

    array_transform = TotalVariation


class NonLocalMeansd(UnitTransformd):
    """Dictionary version of :class:`NonLocalMeans`.

    Args:
        keys: images in [0, 1].
        allow_missing_keys: do not raise where a key is absent.
        options: arguments of :class:`NonLocalMeans`, by name.
    """

    array_transform = NonLocalMeans


TotalVariationD = TotalVariationDict = TotalVariationd
NonLocalMeansD = NonLocalMeansDict = NonLocalMeansd
