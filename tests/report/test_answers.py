# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_unlearnable.report.answers import answer, count_answers
from monai_unlearnable.report.fidelity import fidelity_words

from .samples import FIGURES, matrix, results, row, sweep


def words(found):
    return [one.word for one in answer(found.summaries())]


class TestAnswers:
    @pytest.mark.parametrize(
        ("protected", "word"), [(8.1, "stopped"), (60.0, "weakened"), (80.0, "not stopped"), (95.0, "not stopped")]
    )
    def test_word_is_that_of_the_verdict(self, protected, word):
        assert words(results(protected=protected)) == [word]

    def test_the_seed_that_learned_most_decides(self):
        rows = [row("clean", 84.0), row("protected", 4.0), row("protected", 83.0, seed=1)]
        (found,) = answer(results(rows=rows).summaries())
        assert found.word == "not stopped" and found.figures.startswith("Dice 43.5 (up to 83.0), originals 84.0")
        assert "less than 10 points with one seed at least" in results(rows=rows).verdict()

    def test_nothing_is_answered_without_a_score_to_compare_with(self):
        alone = results(rows=[row("protected", 5.0)])
        assert words(alone) == ["no answer"]
        assert words(results(clean=12.0, protected=5.0)) == ["no answer"], "the originals teach nothing"
        assert words(results(rows=[row("clean", 84.0), row("protected", 0.0, status="diverged")])) == ["no answer"]

    def test_the_control_stands_beside_every_answer(self):
        (found,) = answer(results().summaries())
        assert (found.pipeline, found.figures) == (
            "UNet, plain training",
            "Dice 8.1, originals 84.0, random noise 83.5",
        )
        (alone,) = answer(results(random=None).summaries())
        assert alone.figures.endswith("no control with random noise")

    def test_the_pipeline_that_learns_most_comes_first(self):
        found = answer(matrix().summaries())
        assert found[0].pipeline == "UNet, nnunet training after median"
        assert found[-1].word == "no answer"
        assert count_answers(found) == "3 weakened, 3 stopped, 2 no answer"

    def test_data_are_named_where_there_are_several(self):
        found = answer(sweep({"umed": 37.0}).summaries())
        assert found[0].pipeline == "UNet, plain training, on umed 2/255"


class TestFidelity:
    def test_sentence_has_psnr_epsilon_and_the_size_of_changes(self):
        assert fidelity_words(matrix()) == (
            "PSNR 38.2 dB at epsilon 8/255: a typical voxel changes by 1.2% of the intensity window, and the voxel "
            "that changes most by 3.1%."
        )

    def test_the_control_is_not_meant(self):
        figures = {"random noise": FIGURES}
        assert fidelity_words(matrix(figures=figures)) == ""
