# SPDX-License-Identifier: Apache-2.0
"""Tables say what was measured, with controls, and documents hold them as the entries have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_unlearnable.cli import main
from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence import (
    Overstated,
    Query,
    Score,
    documents,
    own_entries,
    own_traces,
    render,
    rewrite,
    save_entry,
    stale,
)
from monai_unlearnable.evidence.documents import rendered
from tests.evidence.samples import entry

ROOT = Path(__file__).parents[2]
SIZE = {"size": [48, 64, 48], "batch_size": 4}
PLAIN = entry(
    8.0, score=Score(mean=8.0, by_seed=(1.0, 15.0), seeds=(0, 1)), random=Score(mean=83.5), victim_settings=SIZE
)
MIRROR = entry(60.0, recipe="mirror", victim_settings=SIZE)
NNUNET = entry(79.6, 80.4, victim="nnunetv2", recipe="own", iterations=400, measured_by="throw-away code")
ALL = {"plain": PLAIN, "mirror": MIRROR, "nnunet": NNUNET}


def lines(query: str, entries: dict = ALL) -> list[str]:
    return render(Query.of(query), entries).splitlines()


def test_rows_hold_scores_seeds_and_controls_and_what_is_common_is_said_once() -> None:
    head, _, first, *_ = found = lines("victim=UNet recipe=plain")
    assert head == "| Dice | Originals | Random noise | The exploiter is |"
    assert first == "| **8.0** (1.0, 15.0) | 84.0 | 83.5 | stopped |"
    note = found[-1]
    assert note.startswith(
        "Hippocampus, UNet, no augmentation, protected by `umed`, 14/255, PSNR 39.1 dB, 500 iterations"
    )
    assert "input of 48x64x48, batches of 4" in note
    assert "means (each seed)" in note


def test_a_matrix_has_exploiters_by_ways_of_protecting() -> None:
    faint = {"method": "lattice", "epsilon": "8/255", "psnr": 43.5}
    others = {"plain lattice": entry(30.0, **faint, victim_settings=SIZE), "random": entry(83.0, method="random noise")}
    head, _, *rows, note = lines("method!='random noise' rows=matrix", {**ALL, **others})
    assert (
        head == "| The exploiter | Originals | Random noise | `lattice`, 8/255 (43.5 dB) | `umed`, 14/255 (39.1 dB) |"
    )
    assert rows[:3] == [
        "| nnU-Net v2 itself | 80.4 | – | – | 79.6‡ |",
        "| UNet, mirroring | 84.0 | – | – | 60.0 |",
        "| UNet, no augmentation | 84.0 | 83.5 (14/255) | **30.0** | **8.0** |",
    ], "first the exploiter whom the best protection leaves most"
    assert note.startswith("Hippocampus") and "Bold" in note and "‡ Measured by throw-away code" in note


def test_files_of_one_kind_share_a_column_of_the_matrix() -> None:
    again = entry(60.5, recipe="patches", psnr=39.4, victim_settings=SIZE)
    head = lines("rows=matrix method!='random noise'", {**ALL, "again": again})[0]
    assert head.endswith("| Random noise | `umed`, 14/255 (39.1 dB to 39.4 dB) |")


def test_networks_of_several_input_sizes_have_rows_of_their_own_in_a_matrix() -> None:
    small = entry(81.0, recipe="mirror", victim_settings={**SIZE, "size": [32, 32, 32]})
    rows = lines("rows=matrix", {**ALL, "small": small})
    named = [row.split(" | ")[0].removeprefix("| ") for row in rows[2:6]]
    assert named[1:] == [
        "UNet, mirroring, input of 32x32x32",
        "UNet, mirroring, input of 48x64x48",
        "UNet, no augmentation",
    ]


def test_the_width_of_networks_is_told_where_it_differs() -> None:
    """A narrow network may not learn what a wide one does."""
    both = {str(width): entry(width, victim_settings={**SIZE, "width": width}) for width in (8, 16)}
    assert lines("columns=noise,score", both)[0] == "| Width | Dice |"
    assert [row.split(" | ")[0] for row in lines("rows=matrix", both)[2:4]] == [
        "| UNet, no augmentation, width 16",
        "| UNet, no augmentation, width 8",
    ]
    alone = lines("columns=noise,score", {"8": both["8"]})
    assert "Width" not in alone[0] and "width 8" in alone[-1]


def test_trainings_of_several_lengths_have_rows_of_their_own_in_a_matrix() -> None:
    longer = entry(2.0, iterations=2500, method="lattice", victim_settings=SIZE)
    rows = lines("rows=matrix recipe=plain victim=UNet", {**ALL, "longer": longer})
    assert [row.split(" | ")[0] for row in rows[2:4]] == [
        "| UNet, no augmentation, 500 iterations",
        "| UNet, no augmentation, 2,500 iterations",
    ]


def test_trainings_of_several_precisions_have_rows_of_their_own_in_a_matrix() -> None:
    kind = {"victim": "nnunetv2", "recipe": "own"}
    both = {"float32": entry(84.0, **kind), "bfloat16": entry(83.0, **kind, victim_settings={"amp": True})}
    rows = lines("rows=matrix", both)
    assert [row.split(" | ")[0] for row in rows[2:4]] == ["| nnU-Net v2 itself", "| nnU-Net v2 itself, in bfloat16"]


def test_a_matrix_refuses_what_has_no_place_of_its_own() -> None:
    with pytest.raises(InputError, match="several entries of 'UNet, no augmentation' have one place"):
        lines("rows=matrix", {**ALL, "again": entry(2.0, measured_by="throw-away code", victim_settings=SIZE)})
    with pytest.raises(InputError, match="of one dataset, and the entries are of hippocampus, nuclei"):
        lines("rows=matrix", {**ALL, "nuclei": entry(dataset="nuclei")})
    with pytest.raises(InputError, match="a control that learned enough"):
        lines("rows=matrix", {"alone": entry(clean=None)})


def test_the_attack_that_wins_comes_first() -> None:
    rows = lines("method=umed rows=exploiters")[2:5]
    assert [row.split(" | ")[0] for row in rows] == [
        "| nnU-Net v2 itself",
        "| UNet, mirroring",
        "| UNet, no augmentation",
    ]
    assert [row.split(" | ")[-1] for row in rows] == ["not stopped |", "weakened |", "stopped |"]


def test_chosen_columns_leave_nothing_unsaid() -> None:
    longer = entry(1.0, recipe="mirror", iterations=2500, victim_settings={"size": [40, 56, 40]})
    found = lines("recipe=mirror columns=noise,score", {**ALL, "long": longer})
    assert found[0] == "| Input | Dice | Iterations |", "what tells the rows apart is shown, wanted or not"
    assert found[2:4] == ["| 48x64x48 | 60.0 | 500 |", "| 40x56x40 | **1.0** | 2,500 |"]
    common = "Protected by `umed`, 14/255, hippocampus, UNet, mirroring, PSNR 39.1 dB, measured 2026-11-20."
    assert found[-1].startswith(common)


def test_rows_that_would_read_alike_tell_how_the_victim_was_trained() -> None:
    entries = {"a": entry(10.0, victim_settings=SIZE), "b": entry(8.0, victim_settings={**SIZE, "batch_size": 2})}
    found = lines("method=umed columns=score", entries)
    assert found[0] == "| Trained with | Dice |"
    assert found[2:4] == ["| batches of 4 | **10.0** |", "| batches of 2 | **8.0** |"]


def test_unknown_lengths_are_told_from_known_ones() -> None:
    found = lines("recipe=mirror columns=score", {**ALL, "other": entry(1.0, recipe="mirror", iterations=None)})
    assert found[0] == "| Input | Dice | Iterations |"
    assert found[3] == "| – | **1.0** | – |"


def test_of_each_exploiter_the_best_protection_is_shown() -> None:
    entries = {**ALL, "other": entry(30.0, method="foresight", epsilon="8/255", recipe="mirror", victim_settings=SIZE)}
    assert "| UNet, mirroring | `foresight`, 8/255 | **30.0** |" in "\n".join(lines("rows=exploiters", entries))


def test_an_exploiter_is_shown_with_the_training_that_wins() -> None:
    small = {"size": [40, 56, 40], "batch_size": 4}
    entries = {
        "short": entry(4.5, psnr=43.7, victim_settings=SIZE),
        "small": entry(79.2, victim_settings=small),
        "long": entry(60.0, victim_settings=SIZE, iterations=2500),
        "other": entry(82.0, method="lsp", victim_settings=SIZE),
    }
    found = lines("rows=exploiters columns=noise,score", entries)
    assert found[2:4] == ["| 79.2 |", ""], "who wins chooses his size and length, who protects prefers umed to lsp"
    assert found[-1].startswith("Protected by `umed`, 14/255,") and "input of 40x56x40, batches of 4" in found[-1]


def test_exploiters_who_learn_nothing_from_originals_are_not_shown() -> None:
    weak = entry(61.0, 61.8, chance=50.0, victim="ViT")
    assert "ViT" not in render(Query.of("rows=exploiters"), {**ALL, "weak": weak})
    assert lines("columns=score,clean,claim", {"weak": weak})[2] == "| 61.0 | 61.8 | weak by itself |"
    with pytest.raises(InputError, match="learned enough to compare with"):
        lines("rows=exploiters", {"weak": weak})


def test_a_remark_names_the_rows_that_it_is_about() -> None:
    told = {"remark": "Trained on one thread."}
    mirror, plain = entry(60.0, recipe="mirror", **told), entry(**told)
    assert lines("recipe!=own", {"a": mirror, "b": entry()})[-1].endswith(" Mirroring: Trained on one thread.")
    assert lines("recipe!=own", {"a": mirror, "b": plain})[-1].endswith("teach is left. Trained on one thread.")
    short = {"a": plain, "b": entry(iterations=100), "c": mirror, "d": entry(9.0, recipe="mirror", iterations=100)}
    told_apart = "UNet, mirroring (500 iterations); UNet, no augmentation (500 iterations): Trained on one"
    assert told_apart in lines("recipe!=own", short)[-1]


def test_signs_have_footnotes() -> None:
    mark = Overstated(by="nnunet", remark="nnU-Net v2 itself reaches 79.6 of 80.4.")
    entries = {**ALL, "plain": entry(8.0, overstated=mark, moving=True, remark="Two seeds are few.")}
    text = "\n".join(lines("method=umed", entries))
    assert "| **8.0**†~ |" in text
    assert (
        "† Overstated, since a stronger run on the same method and dataset found more. nnU-Net v2 itself reaches 79.6"
        in text
    )
    assert "| 79.6‡ |" in text and "‡ Measured by throw-away code, not by this program." in text
    assert "~ The score still moved" in text
    assert text.endswith("No augmentation: Two seeds are few.")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("recipe=plain,mirror", ["mirror", "plain"]),
        ("recipe!=plain", ["nnunet", "mirror"]),
        ("iterations<=400", ["nnunet"]),
        ("epsilon>=15", []),
        ("victim_settings.size=48x64x48", ["mirror", "plain"]),
        ("claim=stopped", ["plain"]),
        ('measured_by="throw-away code"', ["nnunet"]),
        ("random>=80", ["plain"]),
    ],
)
def test_conditions_choose_entries(query: str, names: list[str]) -> None:
    if names:
        assert Query.of(query).choose(ALL.values()) == [ALL[name] for name in names]
    else:
        with pytest.raises(InputError, match="no entry"):
            Query.of(query).choose(ALL.values())


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("recipes=plain", "no field 'recipes'; did you mean 'recipe'"),
        ("plain", "is no condition"),
        ("random.mean>=1", "random has no parts; write random"),
        ("settings=mirror", "settings cannot be compared by itself; write settings.NAME"),
        ("rows=entries,exploiters", "rows are 'entries,exploiters'; known are entries, exploiters, matrix"),
        ("psnr>=high", "which is no number"),
        ("rows=seeds", "known are entries, exploiters, matrix"),
        ("method=umed columns=price", "no column 'price'"),
        ('method="umed', "cannot be read"),
    ],
)
def test_wrong_queries_say_what_is_wrong(query: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        lines(query)


def test_blocks_are_rendered_in_place_and_stale_ones_are_found(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("# A\n\n<!-- evidence: recipe=mirror -->\nold\n<!-- /evidence -->\n\nB\n")
    assert stale([file], ALL, {}) == [file]
    assert rewrite([file], ALL, {}) == [file]
    text = file.read_text()
    assert text.startswith("# A\n\n<!-- evidence: recipe=mirror -->\n| Dice |")
    assert text.endswith("<!-- /evidence -->\n\nB\n") and "old" not in text
    assert stale([file], ALL, {}) == []
    assert stale([file], {**ALL, "mirror": entry(61.0, recipe="mirror", victim_settings=SIZE)}, {}) == [file]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- evidence: recipe=mirror -->\nx\n", "does not end"),
        (
            "<!-- evidence: recipe=mirror -->\nx\n<!-- evidence: recipe=plain -->\ny\n<!-- /evidence -->\n",
            "does not end",
        ),
        ("<!-- evidence: recipe=none -->\n<!-- /evidence -->\n", "no entry of the evidence"),
    ],
)
def test_broken_blocks_name_the_file(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        rendered(text, ALL, {}, Path("page.md"))
    assert caught.value.file == Path("page.md")


def test_documents_of_this_project_show_the_evidence_as_it_is() -> None:
    files = documents(ROOT)
    assert ROOT / "README.md" in files and ROOT / "docs" / "who-it-stops.md" in files
    assert stale(files, own_entries(), own_traces()) == [], "run: monai-unlearnable evidence render FILE"


def test_commands_show_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_entry(PLAIN, tmp_path, {})
    assert main(["evidence", "show", "method=umed", "--folder", str(tmp_path)]) == 0
    assert "**8.0**" in capsys.readouterr().out
    assert main(["evidence", "render", "--check", str(ROOT / "README.md")]) == 0
    assert main(["evidence", "show", "method=umed", "--folder", str(tmp_path / "typo")]) == 2
    assert "there is no such folder of entries" in capsys.readouterr().err
    assert main(["evidence", "show", "metod=umed", "--folder", str(tmp_path)]) == 2
    assert "did you mean 'method'" in capsys.readouterr().err
