# SPDX-License-Identifier: Apache-2.0
"""Readers of the documentation find what they look for: links lead somewhere, and answers are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_unlearnable.evidence import own_entries

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FRONT = DOCS / "index.md"
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(#[^)\s]*)?\)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]+`", re.DOTALL | re.MULTILINE)

# What a lab asks, and words that no answer can do without.
QUESTIONS = {
    "Which method do I take?": ("nnU-Net itself is not stopped", "Classification", "protect auto"),
    "How long does it take?": ("dry run", "GPU", "peak memory"),
    "What do I publish?": ("OUT/protected/", "OUT/noise/", "statement.json"),
    "Does a reader see the noise?": ("reader study", "enlarged"),
    "What does nnU-Net do with protected scans?": ("It learns", "20,000 iterations"),
    "Can I undo it?": ("restore", "bit for bit"),
    "Who else can undo it?": ("key", "OUT/noise/", "filter"),
    "What if a label is missing?": ("every method", "background"),
    "Can it run on our cluster?": ("Slurm", "torchrun"),
    "Was my data used?": ("p-value", "before you publish"),
}


def pages() -> list[Path]:
    """All documents for readers."""
    return [ROOT / "README.md", ROOT / "benchmarks/README.md", *DOCS.rglob("*.md"), *ROOT.glob("bundles/*/docs/*.md")]


def slug(heading: str) -> str:
    """What links call a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def sections(page: Path) -> dict[str, str]:
    """Text of a page by the slug of its headings, with what is below them; the whole page under an empty one."""
    text = page.read_text(encoding="utf-8")
    bare = CODE.sub(lambda match: re.sub(r"^#", " ", match[0], flags=re.MULTILINE), text)  # comments in code
    found, marks = {"": text}, list(HEADING.finditer(bare))
    for index, mark in enumerate(marks):
        ends = (other.start() for other in marks[index + 1 :] if len(other[1]) <= len(mark[1]))
        found[slug(text[mark.start(2) : mark.end(2)])] = text[mark.end() : next(ends, len(text))]
    return found


def targets(page: Path) -> list[tuple[Path, str]]:
    """File and heading of each link of a page to another part of the project."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    links = [(match[1], (match[2] or "")[1:]) for match in LINK.finditer(text)]
    return [((page.parent / name).resolve() if name else page, heading) for name, heading in links]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    broken = [
        (str(file), heading)
        for file, heading in targets(page)
        if not file.exists() or (heading and file.suffix == ".md" and heading not in sections(file))
    ]
    assert broken == []


def test_the_front_page_lists_these_questions() -> None:
    asked = re.findall(r"^\| ([^|]+\?) \|", FRONT.read_text(encoding="utf-8"), re.MULTILINE)
    assert asked == list(QUESTIONS)


@pytest.mark.parametrize(("question", "words"), QUESTIONS.items())
def test_a_link_of_the_front_page_leads_to_the_answer(question: str, words: tuple[str, ...]) -> None:
    (row,) = [line for line in FRONT.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {question} |")]
    (link,) = LINK.findall(row)
    answer = sections(DOCS / link[0])[link[1][1:]].lower()
    assert [word for word in words if word.lower() not in answer] == []


def test_figures_of_the_table_of_methods_are_in_the_evidence() -> None:
    text = (DOCS / "howto/which-method.md").read_text(encoding="utf-8").partition("## Segmentation of volumes")[2]
    told, scores = set(), re.compile(r"(\d+\.\d) of (\d+\.\d)")
    measured: dict[tuple[str, str], set[str]] = {}
    for entry in own_entries().values():
        if entry.clean:
            pair = f"{entry.score.mean:.1f}", f"{entry.clean.mean:.1f}"
            measured.setdefault(pair, set()).add(f"{entry.psnr:.1f}" if entry.psnr else "")
    for line in text.splitlines():
        pairs = set(scores.findall(line))
        told |= pairs
        *_, psnr = line.strip("| ").split("|")
        if "dB" in psnr:
            apart = {pair for pair in pairs if not measured.get(pair, set()) & set(re.findall(r"\d+\.\d", psnr))}
            assert not apart, line
    assert len(told) > 10 and told - measured.keys() == set()
