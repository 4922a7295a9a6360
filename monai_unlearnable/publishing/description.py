# SPDX-License-Identifier: Apache-2.0
"""A published set described, for people and programs, on its owner's terms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.data.dicom.detection import is_dicom
from monai_unlearnable.data.formats import digest_of
from monai_unlearnable.errors import VerificationError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.croissant import PublishedFile, describe_set, encode_hashes
from monai_unlearnable.publishing.layout import Layout, stated_files, unknown_files
from monai_unlearnable.publishing.statement import (
    change_in_words,
    encode_statement,
    program_version,
    write_statement,
)
from monai_unlearnable.publishing.terms import Terms
from monai_unlearnable.utils.files import below, encode_json, encoded, file_digest, reading, write_atomic
from monai_unlearnable.utils.progress import track

__all__ = ["Description", "describe"]


@dataclass(frozen=True)
class Description:
    """What :func:`describe` did.

    Args:
        written: names of the files that were written to the published folder.
        kept: names of those that were there and are kept.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]


def describe(
    output_dir: str | Path, terms: str | Path, overwrite: bool = False, key: Key | str | Path | None = None
) -> Description:
    """Describe a published set: ``croissant.json``, ``SHA256SUMS``, ``README.md`` and ``LICENSE`` beside its files.

    Nothing is told that the public statement does not tell, but for the owner's terms. The statement is written anew,
    since it holds the hashes of these files too. The output and its files stay as they are otherwise.

    Args:
        output_dir: a complete output.
        terms: YAML file with the owner's terms, see :class:`~monai_unlearnable.publishing.terms.Terms`.
        overwrite: whether ``README.md`` and ``LICENSE`` are replaced; the other two always are.
        key: key that the output is encrypted with, or its file.

    Raises:
        InputError: naming the file and the field, when the terms cannot be used.
        KeyMismatchError: naming the manifest, when it takes another key, or none.
        VerificationError: naming the file, when it is not the one that was recorded, or none of the output.
        OutputError: naming the file, when it cannot be written.

    Example:
        >>> describe("OUT", "terms.yaml").written
        ('README.md', 'LICENSE', 'SHA256SUMS', 'croissant.json')
    """
    known, layout, owner = Terms.load(terms), Layout(output_dir), load_key(key)
    with reading(layout.root):
        manifest = Manifest.load(layout.manifest, owner)
        with layout.locked():
            stated = json.loads(encode_statement(manifest, layout))
            files = _checked(stated, manifest, layout)
            result = _write_texts(known, stated, layout, overwrite)
            files |= _published(layout, (layout.readme, layout.license))
            _write_description(known, stated, files, layout)
            write_statement(manifest, layout, owner)
    return Description((*result.written, layout.hashes.name, layout.croissant.name), result.kept)


def _checked(stated: dict[str, Any], manifest: Manifest, layout: Layout) -> dict[str, PublishedFile]:
    """The published files by name, in order; each is the recorded one, and there are no others."""
    digests = {**dict(stated_files(stated)), layout.datalist.name: manifest.datalist_sha256}
    unknown = next(unknown_files(layout.protected, digests), None)
    if unknown is not None:
        raise VerificationError("is not of this output; it must not be published", file=unknown)
    found = _published(layout, (path for path in below(layout.protected) if path.is_file()))
    for name, digest in digests.items():
        is_same = name in found and found[name].sha256 == digest
        if not is_same and digest_of(layout.protected / name) != digest:  # a scan of several files
            raise VerificationError("the file is not the one that was recorded", file=layout.protected / name)
    return found


def _published(layout: Layout, paths: Iterable[Path]) -> dict[str, PublishedFile]:
    files = {}
    for path in track(list(paths), "describing file"):
        name = path.relative_to(layout.protected).as_posix()
        files[name] = PublishedFile(name, path.stat().st_size, file_digest(path), is_dicom(path))
    return files


def _write_texts(terms: Terms, stated: dict[str, Any], layout: Layout, overwrite: bool) -> Description:
    written, kept = [], []
    for path, text in ((layout.readme, _readme(terms, stated)), (layout.license, _license_text(terms))):
        if path.exists() and not overwrite:
            kept.append(path.name)
        else:
            write_atomic(path, encoded(text))
            written.append(path.name)
    return Description(tuple(written), tuple(kept))


def _write_description(terms: Terms, stated: dict[str, Any], files: dict[str, PublishedFile], layout: Layout) -> None:
    for path in (layout.hashes, layout.croissant):  # of an earlier description
        files.pop(path.name, None)
    write_atomic(layout.hashes, encode_hashes(files[name] for name in sorted(files)))
    (hashes,) = _published(layout, [layout.hashes]).values()
    beside = {layout.readme.name, layout.license.name, *(entry["file"] for entry in stated["others"])}
    cases = [file for name, file in sorted(files.items()) if name not in beside]
    others = [file for name, file in sorted(files.items()) if name in beside]
    write_atomic(layout.croissant, encode_json(describe_set(terms, stated, cases, others, hashes)))


def _readme(terms: Terms, stated: Mapping[str, Any]) -> str:
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

{_use_in_words(terms)}

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


def _license_text(terms: Terms) -> str:
    """The license of a published set: what applies, and where its text is."""
    holders = ", ".join(creator.name for creator in terms.creators)
    return (
        f"{terms.title}\nCopyright {terms.date[:4]} {holders}\n\n{_use_in_words(terms)}\n\nContact: {terms.contact}\n"
    )


def _use_in_words(terms: Terms) -> str:
    name = "" if terms.license == terms.license_url else f"{terms.license}, "
    lines = [f"License: {name}{terms.license_url}"]
    if terms.duo:
        lines += ["", "Data use, in terms of the Data Use Ontology:", ""]
        lines += [f"- {use.label} ({use.short}, DUO:{use.code})" for use in terms.duo]
    if terms.prohibited:
        lines += ["", "Not allowed:", "", *(f"- {use}" for use in terms.prohibited)]
    return "\n".join(lines)
