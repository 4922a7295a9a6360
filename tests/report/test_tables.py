# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from monai_unlearnable.metrics import paired_test
from monai_unlearnable.report import (
    VictimRow,
    compare,
    compare_page,
    comparison_table,
    markdown_table,
    p50_table,
    victim_table,
)
from monai_unlearnable.report.comparison import pair_table
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.tables import Table, format_digits, format_p, matrix_tables, rivals_table

from .samples import matrix, results, row, sweep


def printed(thing, width: int = 180) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(thing)
    return console.file.getvalue()


class TestTable:
    TABLE = Table("[b]Title[/b]", ("Name", "[i]Figure[/i]"), (("a|b", "1"), ("a|b", "2\n3")), caption="[u]About[/u]")

    def test_terminal(self):
        text = printed(self.TABLE.to_rich())
        for part in ("[b]Title[/b]", "[i]Figure[/i]", "a|b", "[u]About[/u]"):
            assert part in text

    def test_markdown(self):
        assert self.TABLE.to_markdown() == "| Name | [i]Figure[/i] |\n| --- | ---: |\n| a\\|b | 1 |\n| a\\|b | 2 3 |\n"

    def test_rows_with_roles_are_grouped(self):
        rows = (("UNet", "originals", "80.0"), ("UNet", "umed", "8.0"), ("ResNet", "umed", "9.0"))
        table = Table("", ("Victim", "Trained on", "Dice"), rows, 2, ("clean", "protected", "protected"))
        assert table.groups() == [
            ("UNet", [("clean", ("originals", "80.0")), ("protected", ("umed", "8.0"))]),
            ("ResNet", [("protected", ("umed", "9.0"))]),
        ]
        assert printed(table.to_rich()).count("UNet") == 1

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (100.0, "100"),
            (99.96, "100"),
            (9.96, "10"),
            (1234.5, "1234"),
            (40.0, "40"),
            (0.12, "0.12"),
            (0.0999, "0.1"),
            (-0.00123, "-0.0012"),
            (1e-9, "0.000000001"),
            (0.0, "0"),
            (math.nan, "–"),
            (math.inf, "–"),
        ],
    )
    def test_two_digits(self, value, text):
        assert format_digits(value) == text


class TestMatrixTable:
    def test_terminal(self):
        text = printed(victim_table(results(title="[red]Title")))
        assert "[red]Title" in text
        for cell in ("originals", "random noise", "Final Dice", "83.5 to 84.5", "85.0 / 83.0", "38.2", "0.9700", "4.5"):
            assert cell in text

    @pytest.mark.parametrize("width", [80, 100, 120, 140])
    def test_no_word_is_cut_on_a_narrow_terminal(self, width):
        text = printed(victim_table(matrix()), width)
        assert "…" not in text and max(map(len, text.splitlines())) <= width
        for word in ("Iterations", "Seeds", "PSNR", "originals", "random"):
            assert word in text
        assert "more in the report" not in printed(victim_table(matrix()))
        assert "more in the report" in printed(victim_table(matrix()), 80)

    def test_failures_are_shown_and_no_score_is_zero(self):
        text = printed(victim_table(matrix()))
        for part in ("Without countermeasure", "Countermeasure: median", "diverged", "failed", "1 (1 of 2 diverged)"):
            assert part in text
        assert " 0.0 " not in text

    def test_metric_names_the_column(self):
        rows = [row("clean", 70.0, metric="balanced accuracy", chance=50.0)]
        assert "Final balanced accuracy" in matrix_tables(results(rows=rows))["none"].columns

    def test_empty_columns_are_left_out(self):
        (table,) = matrix_tables(results(rows=[row("clean", 80.0, by_case=(), extras={})])).values()
        assert tuple(table.columns) == (
            "Victim",
            "Trained on",
            "Final Dice",
            "Iterations",
            "Interval",
            "Peak",
            "Per class",
            "Seeds",
        )

    def test_many_classes_are_summed_up(self):
        (table,) = matrix_tables(
            results(rows=[row("clean", 80.0, per_class=[70.0, 80.0, math.nan, 90.0, 60.0])])
        ).values()
        assert "5 classes, 60.0 to 90.0" in table.rows[0]

    def test_p_value_is_that_of_the_paired_test(self):
        rng = np.random.default_rng(0)
        clean, protected = rng.normal(80, 5, 12), rng.normal(77, 5, 12)
        rows = [
            *(row("clean", 80.0, seed=seed, by_case=clean + seed) for seed in (0, 1)),
            row("protected", 77.0, by_case=protected),
        ]
        summaries = results(rows=rows).summaries()
        values = [ControlledSummaries(summaries).p_value(s) for s in summaries]
        assert math.isnan(values[0])
        assert values[1] == pytest.approx(stats.wilcoxon(protected, clean + 0.5).pvalue)

    def test_no_p_value_for_other_cases(self):
        summaries = results(rows=[row("clean", 80.0), row("protected", 7.0, by_case=(1.0, 2.0))]).summaries()
        assert math.isnan(ControlledSummaries(summaries).p_value(summaries[1]))

    def test_markdown(self):
        lines = markdown_table(matrix()).splitlines()
        assert lines[0] == "| Victim | Recipe | Trained on | PSNR (dB) | Dice | median | Iterations | Seeds |"
        assert (
            "| UNet | plain | umed | 38.2 | 10.5 (10.0 to 11.0) | 30.0 (28.0 to 32.0, 1 of 2 diverged) | 500 | 2 / 1 |"
            in lines
        )
        assert "| SegResNet | nnunet | umed | 38.2 | 40.5 (40.0 to 41.0) | diverged | 500 | 2 / 0 |" in lines
        assert len(lines) == 2 + 12


class TestControls:
    def test_clean_control_is_without_countermeasure(self):
        rows = [
            row("clean", 60.0, countermeasure="median"),
            row("protected", 30.0, countermeasure="median"),
            row("clean", 80.0),
        ]
        summaries = results(rows=rows).summaries()
        found = ControlledSummaries(summaries)
        assert [s.score for s in map(found.control, summaries)] == [80.0] * 3
        assert found.fraction(summaries[2]) == pytest.approx(30 / 80)

    def test_fraction_counts_from_chance(self):
        rows = [row("clean", 90.0, chance=50.0), row("protected", 60.0, chance=50.0)]
        summaries = results(rows=rows).summaries()
        assert ControlledSummaries(summaries).fraction(summaries[1]) == pytest.approx(0.25)

    def test_random_noise_of_the_nearest_size(self):
        found = ControlledSummaries(sweep({"umed": 37.0, "random noise": 0.0}).summaries())
        cells = found.baselines("umed")
        assert [(s.data, found.random(s).data) for s in cells[:2]] == [
            ("umed 2/255", "random noise 2/255"),
            ("umed 4/255", "random noise 4/255"),
        ]

    def test_strongest_passes_over_what_does_not_hold_anyway(self):
        noise = sweep({"umed": 37.0})
        strong = row("protected", 50.0, data="umed 16/255", method="umed", recipe="nnunet")
        weak = row("protected", 79.0, data="umed 2/255", method="umed", recipe="nnunet")
        clean = row("clean", 80.0, recipe="nnunet")
        found = ControlledSummaries(results(rows=[*noise.rows, strong, weak, clean]).summaries())
        assert found.strongest("umed").data == "umed 16/255"


class TestMethods:
    @staticmethod
    def scored(data: str, cases: np.ndarray, **fields) -> VictimRow:
        return row("protected", float(np.mean(cases)), data=data, method=data, by_case=tuple(cases), **fields)

    def test_every_two_of_the_same_kind(self):
        rng = np.random.default_rng(0)
        one, two = rng.normal(20, 5, (2, 12)), rng.normal(30, 5, (2, 12))  # seeds, cases
        rows = [row("clean", 80.0), row("random noise", 79.0)]
        for recipe in ("plain", "nnunet"):
            rows += [self.scored("umed", cases, seed=seed, recipe=recipe) for seed, cases in enumerate(one)]
            rows += [self.scored("tap", cases, seed=seed, recipe=recipe) for seed, cases in enumerate(two)]
        rows.append(self.scored("umed", one[0], countermeasure="median"))
        test = paired_test(one.mean(0), two.mean(0))
        difference, low, high = (f"{value:+.1f}" for value in (test.difference, *test.interval))
        figures = ("none", "umed", "tap", difference, f"{low} to {high}", format_p(test.p_value))
        assert rivals_table(results(rows=rows)).rows == [("UNet, plain", *figures), ("UNet, nnunet", *figures)]

    @staticmethod
    def rare(balanced: float, wrong: int, data: str = "umed") -> VictimRow:
        """A classifier of 90 and 10 cases of two classes, ``wrong`` of which are told wrong."""
        cases = (0.0,) * wrong + (100.0,) * (100 - wrong)
        fields = {"data": data, "method": data, "metric": "balanced accuracy", "chance": 50.0}
        return row("protected", balanced, by_case=cases, **fields)

    def test_of_classes_the_tests_name_the_score_that_they_compare(self):
        rows = [self.rare(50.0, 10), self.rare(80.0, 30, "tap")]  # which tells no case of the rare class, and most
        table, page = rivals_table(results(rows=rows)), render_page(results(rows=rows), {})
        assert table.columns[4:6] == ("Difference", "In accuracy")
        (texts,) = table.rows
        assert texts[4:6] == ("-30.0", "+20.0")
        low, high = texts[6].split(" to ")
        assert float(low) < 20 < float(high)
        assert "They are of accuracy" in page and "paired test of accuracy" in page
        assert "of accuracy" not in render_page(results(), {})

    def test_in_a_sweep_equal_strengths_alone(self):
        found = [cells[2:4] for cells in rivals_table(sweep({"umed": 37.0, "tap": 30.0, "random noise": 0.0})).rows]
        assert found == [(f"umed {epsilon}/255", f"tap {epsilon}/255") for epsilon in (2, 4, 8, 16)]

    def test_strengths_of_single_data_do_not_matter(self):
        rows = [row("protected", score, data=str(score), method=str(score), epsilon=score) for score in (8.0, 9.0)]
        assert [cells[4] for cells in rivals_table(results(rows=rows)).rows] == ["-1.0"]

    def test_nothing_to_compare(self):
        other_cases = self.scored("tap", np.ones(3))
        diverged = self.scored("ntga", np.ones(8), status="diverged")
        for rows in ([], [other_cases], [diverged]):
            made = results(rows=[row("clean", 80.0), self.scored("umed", np.arange(8.0)), *rows])
            assert rivals_table(made).rows == []
            assert "Method against method" not in render_page(made, {})
            assert "Against" not in printed(victim_table(made))

    def test_terminal(self):
        made = results(rows=[self.scored(name, np.arange(8.0) + place) for place, name in enumerate("abcdefgh")])
        assert len(rivals_table(made).rows) == 28
        assert "Against" not in printed(victim_table(made))  # too long
        assert "-1.0 to -1.0" in printed(victim_table(results(rows=made.rows[:3])))


class TestFrontier:
    def test_states(self):
        lines = sweep({"umed": 37.0, "tap": 60.0, "weak": -40.0}).frontier()
        assert [(line.method, line.words) for line in lines] == [
            ("umed", "37.0 dB"),
            ("tap", "at least 46.0 dB"),
            ("weak", "not reached"),
        ]
        assert lines[0].ssim50 == pytest.approx(0.94)  # in the middle between 8/255 and 4/255, as P50 is

    def test_variants_of_a_method_are_no_strengths_of_it(self):
        scores = {"rows": (5.7, 38.04), "checkerboard": (85.7, 38.01), "all": (85.7, 38.1)}
        rows = [
            row("protected", score, data=name, method="carrier", epsilon=14 / 255, psnr=psnr)
            for name, (score, psnr) in scores.items()
        ]
        made = results(rows=[row("clean", 85.7), *rows])
        assert {line.method: line.words for line in made.frontier()} == {
            "rows": "at least 38.0 dB",
            "checkerboard": "not reached",
            "all": "not reached",
        }
        assert "P50" not in made.verdict()

    def test_without_clean_control(self):
        (line,) = results(rows=[row("protected", 5.0)]).frontier()
        assert (line.p50, line.words) == (None, "–")

    def test_diverged_points_are_left_out(self):
        rows = [*sweep({"umed": 37.0}).rows]
        rows.append(row("protected", 0.0, status="diverged", psnr=60.0, method="umed", data="umed 1/255"))
        (line,) = results(rows=rows).frontier()
        assert line.words == "37.0 dB"
        assert len(line.points) == 4

    def test_tables(self):
        text = printed(p50_table(sweep({"umed": 37.0}), brief=True).to_rich())
        assert "37.0 dB" in text
        assert "76.0 at 46.0" in text
        lines = p50_table(sweep({"umed": 37.0}), brief=True).to_markdown().splitlines()
        assert lines[2].startswith("| umed | UNet | plain | 37.0 dB | 0.0 | 80.0 | 500 | 4.0 at 28.0, ")


class TestCompare:
    def test_pairs(self):
        first = results()
        second = results(protected=10.1, random=None)
        found = compare(first, second)
        clean, protected = found.pairs
        assert clean.difference == 0
        assert clean.test.p_value == 1
        assert protected.difference == pytest.approx(2)
        assert protected.test.interval == pytest.approx((2, 2))
        assert protected.test.p_value < 0.01
        assert found.only_first == (("random noise", "UNet", "plain", "none"),)
        assert found.only_second == ()

    def test_no_tests_across_datasets(self):
        found = compare(results(), results(dataset="Other"))
        assert math.isnan(found.pairs[0].test.p_value)
        assert "The datasets differ (Phantom, Other)" in found.remarks()[0]

    def test_nothing_in_common(self):
        assert compare(results(), results(rows=[])).remarks() == ["No setting has a score in both."]

    def test_of_classes_the_tests_name_the_score_that_they_compare(self):
        one, other = (results(rows=[TestMethods.rare(*scores)]) for scores in ((50.0, 10), (80.0, 30)))
        table = pair_table("none", compare(one, other).pairs)
        assert table.columns[5:7] == ("Difference", "In accuracy")
        assert table.rows[0][5:7] == ("+30.0", "-20.0")
        assert "They are of accuracy" in compare_page(one, other)

    def test_failures(self):
        pairs = {pair.first.setting: pair for pair in compare(matrix(), matrix()).pairs}
        (texts,) = pair_table("median", [pairs["umed", "SegResNet", "nnunet", "median"]]).rows
        assert texts[3:8] == ("diverged", "diverged", "–", "–", "–")

    def test_terminal(self):
        text = printed(comparison_table(matrix(), results()))
        assert "only in the first: UNet, plain, umed; " in text
        assert "more" in text
        assert "only in the second: UNet, plain, protected" in text
        assert "largest difference" in text
