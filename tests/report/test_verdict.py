# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math

import pytest

from .samples import matrix, results, row, sweep


class TestOneMethod:
    def test_protection_holds(self):
        assert results().verdict() == (
            "Models trained on the protected scans reach Dice 8.1 on clean scans, against 84.0 for models trained on "
            "the originals; equal-size random noise leaves 83.5. The figures are those after 500 iterations."
        )

    @pytest.mark.parametrize("protected", [80.0, 84.0, 90.0])
    def test_protection_does_not_hold(self, protected):
        assert "The protection does not hold:" in results(protected=protected).verdict()

    def test_protection_does_not_hold_against_one(self):
        rows = [row("clean", 84.0, "SegResNet"), row("protected", 83.0, "SegResNet"), *results().rows]
        verdict = results(rows=rows).verdict()
        assert "does not hold against SegResNet:" in verdict
        assert "2 kinds of model" in verdict

    def test_protection_is_partial(self):
        assert "does not prevent" in results(protected=60.0).verdict()

    def test_half_of_the_score_is_where_it_no_longer_prevents_training(self):
        assert "more than half of the usual score is left" in results(clean=80.0, protected=41.0).verdict()
        assert "half of the usual score" not in results(clean=80.0, protected=39.0).verdict()

    def test_half_is_counted_from_chance(self):
        def verdict(protected):
            return results(rows=[row("clean", 90.0, chance=50.0), row("protected", protected, chance=50.0)]).verdict()

        assert "more than half of the usual score is left" in verdict(71.0)
        assert "half of the usual score" not in verdict(69.0)

    def test_control_drops_as_much(self):
        assert "cannot be credited to the method" in results(random=12.0).verdict()

    def test_control_drops_in_part(self):
        assert "owed to its size" in results(random=60.0).verdict()

    def test_random_noise_of_another_size_is_no_control(self):
        sizes = {"protected": 8 / 255, "random noise": 4 / 255}
        rows = [dataclasses.replace(r, epsilon=sizes.get(r.training)) for r in results(random=12.0).rows]
        verdict = results(rows=rows).verdict()
        assert "equal-size random noise" not in verdict
        assert "There is no control with random noise of the same size" in verdict

    def test_no_control(self):
        assert "no control" in results(random=None).verdict()

    def test_nothing_learned_anyway(self):
        assert "proves nothing" in results(clean=12.0, random=11.0).verdict()

    def test_chance_counts(self):
        fields = {"chance": 50.0, "metric": "balanced accuracy"}
        rows = [row("clean", 60.0, **fields), row("protected", 51.0, **fields)]
        verdict = results(rows=rows).verdict()
        assert "balanced accuracy 51.0" in verdict
        assert "proves nothing" in verdict

    def test_good_on_the_way(self):
        rows = [row(r.training, r.score, seed=r.seed, peak=70.0) for r in results().rows]
        assert "On the way it reaches up to 70.0 (UNet)" in results(rows=rows).verdict()

    def test_more_than_half_on_the_way(self):
        def verdict(peak):
            return results(rows=[row(r.training, r.score, seed=r.seed, peak=peak) for r in results().rows]).verdict()

        assert "On the way it reaches up to 43.0 (UNet)" in verdict(43.0)
        assert "On the way" not in verdict(41.0)

    def test_single_run(self):
        rows = [row("clean", 84.0), row("protected", 8.0), row("random noise", 83.0)]
        assert "single training run" in results(rows=rows).verdict()

    @pytest.mark.parametrize("rows", [[], [row("clean", 84.0)], [row("clean", 84.0), row("protected", math.nan)]])
    def test_no_verdict(self, rows):
        assert results(rows=rows).verdict().startswith("No verdict")


class TestMatrix:
    def test_what_breaks_it(self):
        verdict = matrix().verdict()
        assert "reach Dice 10.5 on clean scans" in verdict
        assert "With nnunet training after median the score comes back to 60.5 of 78.5 (UNet)" in verdict

    def test_failures_are_told(self):
        assert (
            "Of 48 trainings 3 diverged and 2 failed (UNet, plain training after median, umed, ...)"
            in matrix().verdict()
        )

    @pytest.mark.parametrize(
        ("score", "sentence"),
        [
            (80.0, "With nnunet training the score returns to 80.0 of 84.0 (UNet), so the protection does not hold"),
            (60.0, "With nnunet training the score comes back to 60.0 of 84.0 (UNet), more than half"),
            (30.0, "The other way of training that was tried, nnunet training, brings back 30.0 of 84.0 (UNet), less"),
        ],
    )
    def test_another_recipe(self, score, sentence):
        rows = [*results().rows, row("clean", 84.0, recipe="nnunet"), row("protected", score, recipe="nnunet")]
        assert sentence in results(rows=rows).verdict()

    @pytest.mark.parametrize(("score", "sentence"), [(42.5, ", more than half"), (41.5, ", less than half")])
    def test_another_recipe_breaks_it_with_half_of_the_score(self, score, sentence):
        rows = [*results().rows, row("clean", 84.0, recipe="nnunet"), row("protected", score, recipe="nnunet")]
        assert sentence in results(rows=rows).verdict()

    def test_programs_with_a_training_of_their_own_are_named(self):
        rows = [*results().rows]
        for victim, score in (("nnunetv2", 30.0), ("nnunetv2_noda", 20.0)):
            rows += [row("clean", 84.0, victim, recipe="own"), row("protected", score, victim, recipe="own")]
        verdict = results(rows=rows).verdict()
        assert "None of the 2 other ways of training" in verdict
        assert "the best is nnU-Net v2 itself with 30.0 of 84.0 (nnunetv2)" in verdict

    def test_nothing_breaks_it(self):
        rows = [*results().rows]
        rows += [row("protected", 9.0 + i, countermeasure=name) for i, name in enumerate(("blur", "median"))]
        assert "None of the 2 other ways" in results(rows=rows).verdict()
        assert "the best is plain training after median with 10.0 of 84.0 (UNet)" in results(rows=rows).verdict()

    def test_what_wins_more_where_plain_training_is_weakened_is_told(self):
        assert "With nnunet training the score returns to 83.0 of 84.0 (SegResNet)" in two_victims(83.0).verdict()

    def test_what_wins_no_more_there_is_no_success_of_the_protection(self):
        verdict = two_victims(55.0).verdict()
        assert "does not prevent it" in verdict
        assert "Where plain training is stopped, the other way of training that was tried, nnunet" in verdict
        assert "brings back 9.0 of 84.0 (UNet), less than half" in verdict

    def test_what_even_originals_teach_little_is_no_way_that_was_tried(self):
        rows = [*results().rows, row("clean", 12.0, recipe="mirror"), row("protected", 9.0, recipe="mirror")]
        rows += [row("clean", 84.0, recipe="nnunet"), row("protected", 9.0, recipe="nnunet")]
        assert "The other way of training that was tried, nnunet training" in results(rows=rows).verdict()

    def test_what_failed_is_no_success(self):
        rows = [*results().rows, row("protected", 0.0, recipe="nnunet", status="diverged")]
        verdict = results(rows=rows).verdict()
        assert "other way" not in verdict
        assert "1 diverged" in verdict


class TestMethods:
    def test_sweep_of_one(self):
        verdict = sweep({"umed": 37.0, "random noise": 0.0}).verdict()
        assert "depending on which of 4 strengths" in verdict
        assert "Half of the usual score is lost up to a PSNR of 37.0 dB (P50, UNet)." in verdict
        assert "credited" not in verdict

    @pytest.mark.parametrize("clean", [None, 12.0])
    def test_victims_that_cannot_be_compared_do_not_decide_on_p50(self, clean):
        made = sweep({"umed": 37.0})
        rows = [dataclasses.replace(r, victim="Tiny", score=11.0) for r in made.rows if r.training == "protected"]
        rows += [row("clean", clean, "Tiny")] if clean else []
        verdict = dataclasses.replace(made, rows=[*made.rows, *rows]).verdict()
        assert "up to a PSNR of 37.0 dB (P50, UNet)." in verdict

    def test_a_sentence_each(self):
        verdict = sweep({"umed": 37.0, "tap": 10.0, "random noise": 0.0}, ("UNet", "SegResNet")).verdict()
        assert "umed leaves Dice" in verdict
        assert "37.0 dB" in verdict
        assert "tap leaves Dice 80.0 of 80.0: it does not protect." in verdict

    @pytest.mark.parametrize(("score", "sentence"), [(43.0, "brings 43.0 of 84.0"), (41.0, "brings only 41.0 of 84.0")])
    def test_half_of_the_score_brought_back(self, score, sentence):
        rows = [row("clean", 84.0), row("clean", 84.0, recipe="nnunet")]
        for method in ("umed", "tap"):
            fields = {"data": method, "method": method}
            rows += [row("protected", 8.0, **fields), row("protected", score, recipe="nnunet", **fields)]
        assert results(rows=rows).verdict().count(f"nnunet training {sentence} back (UNet)") == 2

    def test_blame_names_the_method(self):
        verdict = sweep({"umed": 37.0, "tap": 36.0, "random noise": 37.0}).verdict()
        assert "cannot be credited to umed, tap" in verdict


def two_victims(score):
    """One is stopped, whatever he does; of the other much is left, and ``score`` after another training."""
    rows = [*results().rows, row("clean", 84.0, recipe="nnunet"), row("protected", 9.0, recipe="nnunet")]
    rows += [row("clean", 84.0, "SegResNet", recipe=recipe) for recipe in ("plain", "nnunet")]
    rows += [row("protected", 60.0, "SegResNet"), row("protected", score, "SegResNet", recipe="nnunet")]
    return results(rows=rows)
