# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import math

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.scores import Scores
from monai_unlearnable.report import Results, VictimRow

from .samples import matrix, results, row, sweep

MORE = {
    "regions": {"umed": {"1": {"mean": 0.001}}},
    "authorized": [{"data": "umed", "victim": "UNet", "clean": 80.0, "protected": 79.0}],
    "detectors": {"umed": {"linear": [0.9, 0.8, 0.95]}},
}
SCORES = Scores("balanced accuracy", 75.0, (70.0, 80.0), (80.0, 70.0), (100.0, 0.0), {"auc": 81.0}, (20.0, 78.0, 75.0))


class TestRow:
    def test_scores_are_taken_over(self):
        made = VictimRow.from_scores(SCORES, training="clean", victim="ResNet", recipe="plain", seed=0, chance=50.0)
        assert (made.metric, made.score, made.peak, made.chance) == ("balanced accuracy", 75.0, 78.0, 50.0)
        assert (made.data, made.method, made.countermeasure, made.status) == ("clean", "clean", "none", "done")
        assert (made.selected, made.extras, made.by_case) == (None, {"auc": 81.0}, (100.0, 0.0))

    def test_selected_by_validation(self):
        scores = dataclasses.replace(SCORES, validation_curve=(10.0, 90.0, 50.0))
        made = VictimRow.from_scores(scores, training="clean", victim="ResNet", recipe="plain", seed=0)
        assert made.selected == 78.0

    def test_scores_that_are_not_finite_diverged(self):
        scores = dataclasses.replace(SCORES, value=math.nan)
        made = VictimRow.from_scores(scores, training="clean", victim="ResNet", recipe="plain", seed=0)
        assert made.status == "diverged"
        assert not made.done
        assert math.isnan(made.peak)

    @pytest.mark.parametrize("status", ["diverged", "failed: no memory"])
    def test_row_without_score_holds_none(self, status):
        made = row("clean", 0.0, status=status)
        assert math.isnan(made.score)
        assert math.isnan(made.interval[0])

    @pytest.mark.parametrize(("field", "value"), [("training", "dirty"), ("status", "fine")])
    def test_unknown_words(self, field, value):
        with pytest.raises(InputError, match=value):
            dataclasses.replace(row("clean", 1.0), **{field: value})


class TestResults:
    @pytest.mark.parametrize("original", [results(**MORE), sweep({"umed": 37.0}), Results("Empty", "none", "none")])
    def test_round_trip(self, original):
        assert Results.from_json(original.to_json()) == original

    def test_failures_survive(self):
        again = Results.from_json(matrix().to_json())
        assert again.to_json() == matrix().to_json()
        assert [r.status for r in again.rows] == [r.status for r in matrix().rows]

    def test_nan_survives(self):
        broken = dataclasses.replace(row("clean", 80.0), per_class=[80.0, math.nan])
        text = results(rows=[broken]).to_json()
        assert "NaN" not in text
        first, second = Results.from_json(text).rows[0].per_class
        assert first == 80.0
        assert math.isnan(second)

    def test_first_files_of_this_version_lack_some_fields(self):
        content = json.loads(results().to_json())
        for name in ("regions", "authorized", "detectors", "frontier"):
            del content[name]
        assert Results.from_json(json.dumps(content)) == results()

    def test_names_on_disk(self):
        content = json.loads(results(**MORE).to_json())
        assert list(content) == [
            *("authorized", "dataset", "detectors", "figures", "frontier", "method", "regions", "rows"),
            *("scans", "schema_version", "settings", "title"),
        ]
        assert list(content["rows"][0]) == [
            *(
                "by_case",
                "chance",
                "command",
                "countermeasure",
                "curve",
                "curve_iterations",
                "data",
                "date",
                "epsilon",
                "extras",
            ),
            *(
                "final_loss",
                "interval",
                "iterations",
                "method",
                "metric",
                "moving",
                "peak",
                "per_class",
                "program_version",
                "psnr",
                "recipe",
                "score",
                "seconds",
                "seed",
            ),
            *("selected", "ssim", "ssim_roi", "status", "training", "victim"),
        ]
        assert list(content["frontier"][0]["points"][0]) == [
            *("data", "epsilon", "finals", "interval", "iterations", "moving", "psnr", "score", "ssim_roi"),
        ]

    def test_frontier_is_in_the_file(self):
        (line,) = json.loads(sweep({"umed": 37.0}).to_json())["frontier"]
        assert (line["method"], line["p50"], line["bound"], line["halfway"]) == ("umed", 37.0, "exact", 40.0)
        assert len(line["points"]) == 4

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            '{"schema_version": 1}',
            '{"schema_version": 2}',
            '{"schema_version": 2, "rows": [{}]}',
            "\xff",
        ],
    )
    def test_broken_json_names_the_file(self, tmp_path, text):
        path = tmp_path / "results.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"results\.json: the results cannot be read"):
            Results.load(path)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"score": 83.5', '"score": "high"'),
            ('"training": "clean"', '"training": "dirty"'),
            ('"psnr": 38.2', '"psnr": []'),
            ('"title"', '"headline"'),
            ('"figures": {', '"figures": [], "others": {'),
            ('"status": "done"', '"status": 1'),
            ('"hd95": 4.5', '"hd95": "far"'),
            ('"linear": [', '"linear": [1.0, '),
            ('"mean": 0.001', '"mean": {}'),
            ('"victim": "UNet"', '"victim": 3'),
            ('"seed": 0', '"seed": "first"'),
            ('"peak": ', '"summit": '),
            ('"interval": [', '"interval": [1.0, '),
            ('"protected": 79.0', '"protected": "high"'),
        ],
    )
    def test_wrong_content(self, old, new):
        text = results(**MORE).to_json()
        assert old in text
        with pytest.raises(InputError, match="cannot be read"):
            Results.from_json(text.replace(old, new))

    def test_missing_file(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.json"):
            Results.load(tmp_path / "none.json")

    def test_metric(self):
        assert results().metric == "Dice"
        assert results(rows=[row("clean", 1.0, metric="balanced accuracy")]).metric == "balanced accuracy"
        assert results(rows=[row("clean", 1.0), row("clean", 1.0, metric="balanced accuracy")]).metric == "score"


class TestSummaries:
    def test_seeds_are_summarized_and_cells_kept_apart(self):
        rows = [
            row("clean", 80.0),
            row("clean", 84.0, seed=1),
            row("clean", 50.0, recipe="nnunet"),
            row("clean", 60.0, countermeasure="median"),
        ]
        first, second, third = results(rows=rows).summaries()
        assert (first.seeds, first.score, first.interval) == (2, 82.0, (80.0, 84.0))
        assert (second.seeds, second.recipe, second.interval) == (1, "nnunet", (48.0, 52.0))
        assert (third.countermeasure, third.score) == ("median", 60.0)
        assert first.by_case == pytest.approx([81, 81.2857, 81.5714, 81.8571, 82.1429, 82.4286, 82.7143, 83], abs=1e-3)

    def test_failed_rows_are_never_averaged_in(self):
        rows = [row("clean", 80.0), row("clean", 0.0, seed=1, status="diverged"), row("clean", 82.0, seed=2)]
        (summary,) = results(rows=rows).summaries()
        assert (summary.score, summary.seeds, summary.peak) == (81.0, 2, 84.0)
        assert summary.interval == (80.0, 82.0)
        assert summary.note == "1 of 3 diverged"
        assert len(summary.curves) == 2

    @pytest.mark.parametrize(("status", "word"), [("diverged", "diverged"), ("failed: no memory", "failed")])
    def test_cell_without_any_score(self, status, word):
        (summary,) = results(rows=[row("clean", 0.0, status=status)]).summaries()
        assert math.isnan(summary.score)
        assert (summary.failure, summary.done, summary.seeds) == (word, False, 0)

    def test_other_test_cases_are_not_averaged(self):
        rows = [row("clean", 80.0), row("clean", 80.0, seed=1, by_case=(1.0,))]
        assert results(rows=rows).summaries()[0].by_case == ()

    def test_order(self):
        rows = [row("protected", 1.0, countermeasure="median"), row("random noise", 1.0), row("clean", 1.0)]
        found = [(s.countermeasure, s.training) for s in results(rows=rows).summaries()]
        assert found == [("none", "clean"), ("none", "random noise"), ("median", "protected")]
