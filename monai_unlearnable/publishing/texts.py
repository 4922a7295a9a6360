# SPDX-License-Identifier: Apache-2.0
"""What people read beside published files: README and LICENSE, and in a sentence what was changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_unlearnable.noise.records import read_budget
from monai_unlearnable.publishing.findings import figure_ranges
from monai_unlearnable.publishing.terms import Terms

__all__ = ["change_in_words", "license_text", "program_version", "readme"]

LEVELS = 255  # epsilons are usually given in steps of an 8-bit image


def program_version(stated: Mapping[str, Any]) -> str:
    """The version of this program that protected a set, from its public statement."""
    return str(stated["versions"]["monai_unlearnable"])


def change_in_words(stated: Mapping[str, Any]) -> str:
    """How much was changed, from the public statement alone."""
    budgets = [read_budget(scan["budget"]) for scan in stated["scans"]]
    figures = figure_ranges((scan["measured"] for scan in stated["scans"]), ("linf", "psnr"))
    epsilon, fraction = max(budget.epsilon for budget in budgets), max(budget.fraction for budget in budgets)
    where = "" if fraction == 1 else f", and no more than {fraction:.3g} of the voxels of a scan"
    low, high = (f"{value:.1f}" for value in figures["psnr"])
    psnr = low if low == high else f"{low} to {high}"
    return (
        f"The noise changes no voxel by more than {_fraction(epsilon)} of the intensity window of its scan{where}. "
        f"The largest change is {figures['linf'][1]:.3g}; the PSNR against the originals is {psnr} dB."
    )


def _fraction(epsilon: float) -> str:
    steps = epsilon * LEVELS
    return f"{steps:.0f}/{LEVELS}" if steps >= 1 and abs(steps - round(steps)) < 1e-6 else f"{epsilon:.3g}"


def readme(terms: Terms, stated: Mapping[str, Any]) -> str:
    """The page of a published set, in Markdown."""
    return f"""# {terms.title}

{terms.description}

## What was changed

These scans are not the originals. monai_unlearnable {program_version(stated)} added noise to them (method
{stated["method"]}), which makes it harder to train models on them, and does not rule it out. People can read them.

- {change_in_words(stated)}
- Geometry and data type are those of the originals, and labels say what they said there.
- Differences of intensity as small as the noise mean nothing.

## Terms of use

{_terms(terms)}

## How to cite

{terms.cited}

## How to check the files

`sha256sum --check SHA256SUMS` in this folder finds files that are missing or changed. With the owner's public
statement, `monai-unlearnable audit FOLDER statement.json` also finds files that do not belong here, and checks the
signature.
`croissant.json` describes the set for programs.

## Contact

{terms.contact}
"""


def license_text(terms: Terms) -> str:
    """The license of a published set: what applies, and where its text is."""
    holders = ", ".join(creator.name for creator in terms.creators)
    return f"{terms.title}\nCopyright {terms.date[:4]} {holders}\n\n{_terms(terms)}\n\nContact: {terms.contact}\n"


def _terms(terms: Terms) -> str:
    name = "" if terms.license == terms.license_url else f"{terms.license}, "
    lines = [f"License: {name}{terms.license_url}"]
    if terms.duo:
        lines += ["", "Data use, in terms of the Data Use Ontology:", ""]
        lines += [f"- {use.label} ({use.short}, DUO:{use.code})" for use in terms.duo]
    if terms.prohibited:
        lines += ["", "Not allowed:", "", *(f"- {use}" for use in terms.prohibited)]
    return "\n".join(lines)
