# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import OwnerKey, secret_seed
from monai_unlearnable.errors import BudgetError, OutputError
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import Augmentation, GradientNoise, Objective, standardize
from monai_unlearnable.perturbers.surrogate import task_loss
from monai_unlearnable.training import (
    Alternating,
    BudgetAudit,
    EpochLoader,
    ProtectionTrainer,
    ResumableCheckpoint,
    SignDescent,
    SurrogatePool,
    TensorBoardCurves,
    TrainingProgress,
)
from tests.helpers import BUDGET, small_shared, small_surrogate, small_umed

SIZES = {2: (16, 16), 3: (16, 16, 8)}


def batches(dims: int, count: int = 6) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    items = []
    for index in range(count):
        image = torch.rand(1, *SIZES[dims], generator=generator)
        label = (image > 0.5).to(torch.uint8)
        items.append({"image": image, "label": label, "case_id": f"c{index}", "step": torch.tensor([0.01])})
    return Dataset(items)


def make(
    dims: int = 3, epochs: int = 3, handlers: tuple[Any, ...] = (), size: int = 2, **arguments: Any
) -> ProtectionTrainer:
    network = UNet(dims, 1, 2, (4, 8), (2,), norm="instance")
    perturber = small_umed(dims, support=Everywhere(), contour=Everywhere())
    loader = EpochLoader(batches(dims), batch_size=2, batches=4, seed=0)
    return ProtectionTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        surrogates=SurrogatePool(network, size=size, lifetime=5),
        perturber=perturber,
        perturber_optimizer=torch.optim.Adam(perturber.parameters(), 1e-2),
        loss_function=DiceCELoss(softmax=True, to_onehot_y=True, include_background=False),
        train_handlers=[loader, *handlers],
        **arguments,
    )


def state(trainer: ProtectionTrainer) -> list[torch.Tensor]:
    networks = (trainer.perturber, *trainer.surrogates.networks)
    return [value.clone() for network in networks for value in network.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dims", [2, 3])
def test_noise_learns_to_lower_the_loss_of_a_surrogate_that_does_not_learn(dims: int) -> None:
    trainer = make(dims, epochs=12, strategy=Alternating(10**6))
    trainer.surrogates.lifetime = None
    losses: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    trainer.run()
    assert len(losses) == 48
    assert sum(losses[-8:]) < sum(losses[:8]) - 0.1


def test_same_seed_same_weights_whatever_the_global_generator() -> None:
    torch.manual_seed(1)
    first = make()
    first.run()
    torch.manual_seed(2)
    second = make()
    second.run()
    assert same(state(first), state(second))


def test_surrogates_are_held_back() -> None:
    trainer = make(epochs=2, strategy=Alternating(4))
    trainer.surrogates.lifetime = None
    trainer.run()
    assert trainer.surrogates.ages == [1, 1], "one step each in four rounds of two"


@pytest.mark.parametrize(("size", "interval"), [(1, 1), (1, 4), (2, 1), (2, 3), (3, 2)])
def test_every_surrogate_trains_once_an_interval(size: int, interval: int) -> None:
    trainer = make(dims=2, epochs=2, size=size, strategy=Alternating(interval), epoch_length=size * interval)
    trainer.surrogates.lifetime = None
    trainer.run()
    assert trainer.surrogates.ages == [2] * size


def test_bfloat16_shares_the_code_path() -> None:
    trainer = make(epochs=1, amp=True)
    trainer.run()
    assert trainer.state.iteration == 4
    assert all(torch.isfinite(value).all() for value in state(trainer))


def test_stopped_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole = make(epochs=4)
    whole.run()

    def with_checkpoint(epochs: int, settings: Any = "a") -> ProtectionTrainer:
        trainer = make(epochs=4)
        objects = {
            "surrogates": trainer.surrogates,
            "perturber": trainer.perturber,
            "optimizer": trainer.perturber_optimizer,
        }
        ResumableCheckpoint(tmp_path / "models" / "training.pt", objects, settings).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), lambda engine: engine.terminate())
        return trainer

    with_checkpoint(2).run()
    resumed = with_checkpoint(4)
    assert resumed.state.epoch == 2
    resumed.run()
    assert same(state(whole), state(resumed))
    with pytest.raises(OutputError, match=r"training.pt.*other settings"):
        with_checkpoint(4, settings="b")
    (tmp_path / "models" / "training.pt").write_bytes(b"no checkpoint")
    with pytest.raises(OutputError, match=r"training.pt.*cannot be read"):
        with_checkpoint(4)


@pytest.mark.parametrize("seed", [3, secret_seed(3, OwnerKey(bytes(32)))])
def test_dropout_follows_from_the_seed_and_resumes(tmp_path: Path, seed: int) -> None:
    def trainer(stop: int | None = None, seed: int = seed) -> ProtectionTrainer:
        network = UNet(2, 1, 2, (4, 8), (2,), norm="instance", dropout=0.5)
        made = ProtectionTrainer("cpu", 3, EpochLoader(batches(2), 2, 4), SurrogatePool(network), None, None, seed=seed)
        if stop:
            ResumableCheckpoint(tmp_path / "training.pt", made.stateful()).attach(made)
            made.add_event_handler(Events.EPOCH_COMPLETED(once=stop), lambda engine: engine.terminate())
        torch.manual_seed(7)  # where a new process may begin
        return made

    whole, stopped, other = trainer(), trainer(1), trainer(seed=4)
    for each in (whole, stopped, other):
        torch.rand(1)
        each.run()
    resumed = trainer(3)
    assert resumed.state.epoch == 1
    resumed.run()
    assert same(weights(whole), weights(resumed)) and not same(weights(whole), weights(other))


def test_a_run_killed_while_it_saves_has_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, saves, save = tmp_path / "training.pt", iter(range(10)), torch.save

    def killed(*arguments: Any) -> None:
        if next(saves) == 1:
            assert path.is_file(), "or else a run killed now would start anew"
            raise KeyboardInterrupt
        save(*arguments)

    trainer = make(epochs=3)
    ResumableCheckpoint(path, {"surrogates": trainer.surrogates}).attach(trainer)
    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = make(epochs=3)
    ResumableCheckpoint(path, {"surrogates": resumed.surrogates}).attach(resumed)
    assert resumed.state.epoch == 1 and [file.name for file in tmp_path.iterdir()] == ["training.pt"]


def test_disks_that_refuse_the_state(tmp_path: Path) -> None:
    trainer = make(epochs=1)
    (tmp_path / "models").write_bytes(b"a file")
    ResumableCheckpoint(tmp_path / "models/training.pt", {"surrogates": trainer.surrogates}).attach(trainer)
    with pytest.raises(OutputError, match=r"training\.pt: cannot be written"):
        trainer.run()


def test_training_that_is_over_is_left_as_it_is(tmp_path: Path) -> None:
    def trainer() -> ProtectionTrainer:
        made = make(epochs=2)
        objects = {"surrogates": made.surrogates, "perturber": made.perturber}
        ResumableCheckpoint(tmp_path / "training.pt", objects).attach(made)
        return made

    first = trainer()
    first.run()
    again = trainer()
    again.run()
    assert again.state.iteration == 8 and same(state(first), state(again))


def striped(count: int = 9) -> list[dict[str, Any]]:
    """Images of three classes with a bright stripe that tells theirs."""
    generator, items = torch.Generator().manual_seed(0), []
    for index in range(count):
        image = 0.3 + 0.1 * torch.rand(1, 16, 16, generator=generator)
        image[:, 5 * (index % 3) : 5 * (index % 3) + 5] += 0.1
        step = torch.tensor([0.01])
        items.append({"image": image, "label": torch.tensor(index % 3), "case_id": f"c{index}", "step": step})
    return items


def classes_trainer(
    perturber: Any = None, optimizer: Any = None, pool: SurrogatePool | None = None, epochs: int = 4, **arguments: Any
) -> ProtectionTrainer:
    """A trainer on images of classes; a perturber is made of the pool."""
    pool = SurrogatePool(small_surrogate(), learning_rate=3e-3) if pool is None else pool
    loader = EpochLoader(Dataset(striped()), batch_size=9, batches=5, seed=0)
    made = perturber(pool) if callable(perturber) and not isinstance(perturber, torch.nn.Module) else perturber
    return ProtectionTrainer("cpu", epochs, loader, pool, made, optimizer, train_handlers=[loader], **arguments)


def outputs(trainer: ProtectionTrainer) -> Iterator[dict[str, float]]:
    """Run a trainer; the output of each iteration."""
    collected: list[dict[str, float]] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: collected.append(engine.state.output))
    trainer.run()
    return iter(collected)


def weights(trainer: ProtectionTrainer) -> list[torch.Tensor]:
    return [value.clone() for network in trainer.surrogates.networks for value in network.state_dict().values()]


def case_noise(pool: SurrogatePool) -> GradientNoise:
    return GradientNoise(pool.networks, BUDGET.epsilon, steps=3, step_size=0.04)


def test_surrogates_learn_on_noise_that_is_made_of_them() -> None:
    trainer = classes_trainer(case_noise, augmentation=Augmentation([16, 16]))
    before = weights(trainer)
    found = list(outputs(trainer))
    assert len(found) == 20 and not same(before, weights(trainer))
    errors = [output["error"] for output in found]
    assert sum(errors[:5]) > 0.5 and sum(errors[-5:]) == 0
    assert all(0.9 * BUDGET.epsilon < output["linf"] <= BUDGET.epsilon + 1e-6 for output in found)
    steps = [output["linf"] / 0.01 for output in found]
    assert steps == pytest.approx([round(step) for step in steps], abs=1e-3), "whole storage steps"
    assert all(parameter.grad is None or torch.isfinite(parameter.grad).all()
               for parameter in trainer.perturber.parameters())  # fmt: skip


def test_same_seed_same_surrogates_of_random_augmentations() -> None:
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(results))
        trainer = classes_trainer(case_noise, epochs=1, augmentation=Augmentation(noise=0.2, flip=True), seed=seed)
        trainer.run()
        results.append(weights(trainer))
    assert same(results[0], results[1]) and not same(results[0], results[2])


def test_without_a_perturber_surrogates_see_clean_images() -> None:
    trainer = classes_trainer()
    before, found = weights(trainer), list(outputs(trainer))
    assert all(output["linf"] == 0 for output in found) and not same(before, weights(trainer))
    assert sum(output["loss"] for output in found[-5:]) < 0.7 * sum(output["loss"] for output in found[:5])


@pytest.mark.parametrize("lifetime", [None, 20])
def test_surrogates_that_are_attacked_stay_as_they_are(lifetime: int | None) -> None:
    pool = SurrogatePool(small_surrogate(), learning_rate=3e-3, lifetime=lifetime)
    classes_trainer(pool=pool).run()
    assert pool.ages == [20]
    shared = small_shared((16, 16))
    shared.tile.data.zero_()
    optimizer = SignDescent(shared.parameters(), lr=0.01, epsilon=BUDGET.epsilon)
    attack = classes_trainer(
        shared, optimizer, pool, loss_function=Objective("target"), strategy=Alternating(None), epochs=3
    )
    before, found = weights(attack), list(outputs(attack))
    assert same(before, weights(attack)) and pool.ages == [20], "buffers too, and none starts again"
    assert (
        found[-1]["loss"] < found[0]["loss"] and 0.9 * BUDGET.epsilon < shared.tile.abs().max() <= BUDGET.epsilon + 1e-6
    )
    image, label = (torch.stack([item[key] for item in striped()]) for key in ("image", "label"))
    noisy = image + shared.delta(image, [""] * 9, label)
    network = pool.networks[0].eval()
    losses = [task_loss(network(standardize(seen)), (label + 1) % 3) for seen in (image, noisy)]
    assert losses[1] < losses[0]


def test_shared_noise_and_surrogates_learn_together() -> None:
    shared = small_shared((16, 16))
    before = shared.tile.detach().clone()
    optimizer = SignDescent(shared.parameters(), lr=0.02, epsilon=BUDGET.epsilon)
    trainer = classes_trainer(shared, optimizer)
    networks, found = weights(trainer), list(outputs(trainer))
    assert not torch.equal(shared.tile, before) and not same(networks, weights(trainer))
    assert sum(output["error"] for output in found[-5:]) == 0


def test_audit_stops_noise_beyond_the_budget() -> None:
    make(epochs=1, handlers=(BudgetAudit(BUDGET),)).run()
    with pytest.raises(BudgetError, match="budget is 0.01"):
        make(epochs=1, handlers=(BudgetAudit(Budget(0.01)),)).run()


def test_watchers_leave_the_result_alone(tmp_path: Path) -> None:
    plain = make(epochs=1)
    plain.run()
    watched = make(epochs=1, handlers=(TrainingProgress(), TensorBoardCurves(tmp_path)))
    watched.run()
    assert same(state(plain), state(watched))
    assert list(tmp_path.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (1, 1, 6, 7, 5)])
def test_standardize(shape: tuple[int, ...]) -> None:
    image = 5 + 3 * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    spatial = tuple(range(2, len(shape)))
    result = standardize(image)
    torch.testing.assert_close(result.mean(spatial), torch.zeros(shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(spatial), torch.ones(shape[:2]), atol=1e-4, rtol=0)
    assert torch.isfinite(standardize(torch.ones(shape))).all(), "constant images have no deviation"
