# SPDX-License-Identifier: Apache-2.0
"""Learned purifiers take planted noise out of cases that they have not seen."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_unlearnable.countermeasures import AutoencoderPurifier, Material, PairPurifier, Prepared, prepare
from monai_unlearnable.errors import InputError
from tests.countermeasures.planted import SHAPES, material, segmentation_cases, smooth_image

PAIRS = {"pairs": 8, "width": 8, "iterations": 200, "batch_size": 8}
SMALL = {"width": 8, "iterations": 200, "batch_size": 8, "patch_size": 12, "learning_rate": 1e-2}


def change(prepared: Prepared, image: Tensor) -> Tensor:
    sample: dict[str, Any] = {"image": image}
    for step in prepared.steps:
        sample = step(sample)
    return sample["image"]


def clean_and_protected(count: int, dims: int, start: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    clean = segmentation_cases(count, dims, [False] * count, start=start)
    return clean, segmentation_cases(count, dims, start=start)


def test_pairs_remove_a_fixed_pattern() -> None:
    clean, protected = clean_and_protected(10, 3)
    done = PairPurifier(**PAIRS).prepare(material(protected, clean))
    assert list(done.cases) == protected
    held_clean, held = clean_and_protected(4, 3, start=100)
    before = sum(((x["image"] - y["image"]) ** 2).mean() for x, y in zip(held, held_clean, strict=True))
    after = sum(((change(done, x["image"]) - y["image"]) ** 2).mean() for x, y in zip(held, held_clean, strict=True))
    assert after < before / 3
    images = [torch.rand(1, *shape) for shape in (SHAPES[3], (9, 9, 9), (33, *SHAPES[3][1:]))]
    assert all(change(done, image).shape == image.shape for image in images)


def test_pairs_of_equal_images_change_little() -> None:
    clean, _ = clean_and_protected(8, 2)
    done = PairPurifier(**PAIRS).prepare(material(clean, clean))
    assert (change(done, clean[0]["image"]) - clean[0]["image"]).abs().mean() < 0.02


def test_pairs_need_originals() -> None:
    clean, protected = clean_and_protected(5, 2)
    with pytest.raises(InputError, match="originals are known of 0"):
        PairPurifier(pairs=1).prepare(material(protected))
    with pytest.raises(InputError, match="4 leaked pairs") as caught:
        PairPurifier(pairs=4).prepare(material(protected, clean[:3]))
    assert caught.value.limit == 3
    clean[0] = {**clean[0], "image": torch.rand(1, 8, 8)}
    with pytest.raises(InputError, match="case0.*shape"):
        PairPurifier(pairs=5).prepare(material(protected, clean))
    with pytest.raises(InputError, match="pairs is 0"):
        PairPurifier(pairs=0)


def test_autoencoder_suppresses_stripes() -> None:
    _, protected = clean_and_protected(8, 3)
    done = AutoencoderPurifier(rate=0.5, **SMALL).prepare(material(protected))
    (clean,), (held,) = clean_and_protected(1, 3, start=50)
    pattern = held["image"] - clean["image"]
    changed = change(done, held["image"])
    kept = ((changed - clean["image"]) * pattern).sum() / (pattern**2).sum()
    assert abs(kept) < 0.25  # a sixteenth of the energy
    assert ((changed - clean["image"]) ** 2).mean() < clean["image"].var() / 2
    assert change(done, torch.rand(1, 13, 13, 13)).shape == (1, 13, 13, 13)


def test_a_lower_rate_keeps_less() -> None:
    cases = [{"image": smooth_image((24, 20), seed, noise=0.1), "case_id": str(seed)} for seed in range(8)]

    def error(rate: float) -> float:
        done = AutoencoderPurifier(rate=rate, **SMALL).prepare(material(cases))
        return float(sum(((change(done, case["image"]) - case["image"]) ** 2).mean() for case in cases))

    assert error(0.05) > 1.2 * error(2.0)


def test_autoencoder_takes_several_stages_channels_and_sizes() -> None:
    cases = [{"image": torch.rand(2, 10 + 3 * i, 17), "case_id": str(i)} for i in range(3)]
    done = AutoencoderPurifier(stages=3, width=4, iterations=3).prepare(material(cases))
    assert all(change(done, case["image"]).shape == case["image"].shape for case in cases)
    with pytest.raises(InputError, match="no case"):
        AutoencoderPurifier().prepare(material([]))
    with pytest.raises(InputError, match="rate is 0"):
        AutoencoderPurifier(rate=0)


@pytest.mark.parametrize(
    "purifier", [AutoencoderPurifier(width=4, iterations=4), PairPurifier(2, width=4, iterations=4)]
)
def test_the_seed_decides_and_the_result_pickles(purifier: AutoencoderPurifier | PairPurifier) -> None:
    clean, protected = clean_and_protected(6, 2)
    state = torch.random.get_rng_state()
    first, second, other = (purifier.prepare(material(protected, clean, seed)) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    image = protected[0]["image"]
    assert torch.equal(change(first, image), change(second, image))
    assert not torch.equal(change(first, image), change(other, image))
    again = pickle.loads(pickle.dumps(first))
    assert torch.equal(change(again, image), change(first, image))


def test_purifiers_follow_other_steps() -> None:
    clean, protected = clean_and_protected(6, 2)

    def dim(sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, "image": sample["image"] / 2}

    seen: list[float] = []

    class Watch(PairPurifier):
        def prepare(self, material: Material) -> Prepared:
            seen.extend(float(material.load(case)["image"].max()) for case in material.cases)
            return super().prepare(material)

    done = prepare([dim, Watch(4, width=4, iterations=2)], material(protected, clean))
    assert len(done.steps) == 2 and max(seen) < 0.5
