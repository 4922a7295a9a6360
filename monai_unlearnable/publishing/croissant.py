# SPDX-License-Identifier: Apache-2.0
"""A published set described for programs: Croissant 1.1, a vocabulary of MLCommons on top of schema.org, as JSON-LD.

Provenance is told in terms of PROV-O, what use is permitted in those of the Data Use Ontology and of ODRL. All of it
follows from the public statement, the published files and the owner's terms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from monai_unlearnable.publishing.statement import change_in_words, program_version
from monai_unlearnable.publishing.terms import Creator, DataUse, Terms

__all__ = ["PublishedFile", "encode_hashes", "describe_set"]

VERSION = "http://mlcommons.org/croissant/1.1"
DUO = "http://purl.obolibrary.org/obo/DUO_"  # written out: what ends so is no prefix of JSON-LD
LISTED = 200  # files of cases that are described one by one; more are a set of files with a list of hashes
# The names of the recommended context, so that readers find those of the vocabulary that are not used here too.
NAMES = (
    *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract"),
    *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "readLines", "recordSet", "references", "regex", "sdVersion", "separator"),
    *("source", "subField", "transform", "unArchive", "value"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",  # the specification has http too, which its reference reader refuses
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in NAMES},
}
# Media types, or where there is none the address of a page about the format.
FORMATS = {
    (".nii", ".nii.gz"): "https://nifti.nimh.nih.gov/",
    (".mha", ".mhd"): "https://itk.org/Wiki/ITK/MetaIO/Documentation",
    (".nrrd", ".nhdr"): "https://teem.sourceforge.net/nrrd/format.html",
    (".mgh", ".mgz", ".mgh.gz"): "https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat",
    (".dcm", ".dicom", ".ima"): "application/dicom",
    (".png",): "image/png",
    (".tif", ".tiff"): "image/tiff",
    (".json",): "application/json",
    (".npz",): "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html",
    (".md",): "text/markdown",
    ("license", "sha256sums"): "text/plain",
}


@dataclass(frozen=True)
class PublishedFile:
    """A file of a published set.

    Args:
        name: name relative to the folder of the set.
        size: bytes.
        sha256: digest of its content.
        is_dicom: whether its content is DICOM, whatever its name.
    """

    name: str
    size: int
    sha256: str
    is_dicom: bool = False

    @property
    def id(self) -> str:
        """The name as a relative address."""
        return quote(os.fsencode(self.name))

    @property
    def encoding(self) -> str:
        """Media type or address of the format."""
        name = self.name.lower()
        unknown = "application/dicom" if self.is_dicom else "application/octet-stream"
        return next((kind for suffixes, kind in FORMATS.items() if name.endswith(suffixes)), unknown)


def encode_hashes(files: Iterable[PublishedFile]) -> bytes:
    """The digests of files as ``sha256sum --check`` reads them."""
    lines = []
    for file in files:
        name = file.name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{'' if name == file.name else chr(92)}{file.sha256}  {name}\n")
    return os.fsencode("".join(lines))


def describe_set(
    terms: Terms,
    stated: Mapping[str, Any],
    cases: Sequence[PublishedFile],
    others: Sequence[PublishedFile],
    hashes: PublishedFile,
) -> dict[str, Any]:
    """The description of a published set, to be written as JSON.

    Args:
        terms: the owner's terms.
        stated: content of the public statement.
        cases: files of scans and labels.
        others: all other published files but ``hashes`` and the description itself.
        hashes: list of the digests of ``cases`` and ``others``.
    """
    singles = [_file_object(file) for file in (*others, hashes)]
    many = len(cases) > LISTED
    content = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": terms.title,
        "description": f"{terms.description}\n\n{change_in_words(stated)}",
        "license": terms.license_url,
        "url": terms.url,
        "creator": [_creator(creator) for creator in terms.creators],
        "datePublished": terms.date,
        "version": terms.version,
        "citeAs": terms.cited,
        "isLiveDataset": False,
        "prov:wasDerivedFrom": _originals(terms),
        "prov:wasGeneratedBy": _activity(stated),
        "usageInfo": [*map(_defined_term, terms.duo), *_policies(terms)],
        "distribution": [*singles, *([_file_set(cases, others, hashes)] if many else map(_file_object, cases))],
    }
    return {name: value for name, value in content.items() if value not in (None, [])}


def _creator(creator: Creator) -> dict[str, str]:
    content = {"@type": "sc:Person" if creator.is_person else "sc:Organization", "name": creator.name}
    return content if creator.url is None else {**content, "url": creator.url}


def _file_object(file: PublishedFile) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": file.id,
        "name": file.name,
        "contentUrl": file.id,
        "contentSize": f"{file.size} B",
        "encodingFormat": file.encoding,
        "sha256": file.sha256,
    }


def _file_set(cases: Sequence[PublishedFile], others: Sequence[PublishedFile], hashes: PublishedFile) -> dict[str, Any]:
    """The files that the list of hashes names, but for those that are described one by one."""
    count, size = len(cases), sum(file.size for file in cases)
    return {
        "@type": "cr:FileSet",
        "@id": "cases",
        "name": "scans and labels",
        "description": f"{count} files, {size} bytes in all; {hashes.name} has a line with SHA-256 and name of each",
        "containedIn": {"@id": hashes.id},
        "encodingFormat": sorted({file.encoding for file in cases}),
        "includes": "**",
        "excludes": [file.name for file in others],
    }


def _originals(terms: Terms) -> dict[str, str]:
    known = {} if terms.derived_from is None else {"@id": terms.derived_from}
    return {**known, "@type": "prov:Entity", "prov:label": "the original scans, which are not part of this set"}


def _activity(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "prov:Activity",
        "prov:label": "protection against the training of models",
        "description": f"Noise of the method {stated['method']}. {change_in_words(stated)}",
        "prov:wasAssociatedWith": {
            "@type": ["prov:SoftwareAgent", "sc:SoftwareApplication"],
            "name": "monai_unlearnable",
            "softwareVersion": program_version(stated),
        },
    }


def _defined_term(use: DataUse) -> dict[str, str]:
    return {"@type": "sc:DefinedTerm", "name": use.label, "termCode": f"DUO_{use.code}", "url": f"{DUO}{use.code}"}


def _policies(terms: Terms) -> Iterator[dict[str, Any]]:
    """One offer of ODRL with what is permitted, under which constraints, and what is prohibited."""
    if not terms.duo and not terms.prohibited:
        return
    offer: dict[str, Any] = {"@type": ["sc:CreativeWork", "odrl:Offer"], "name": "Terms of use"}
    constraints = [_constraint(use) for use in terms.duo if not use.is_permission]
    for use in terms.duo:
        if use.is_permission:
            offer["odrl:permission"] = {
                "@type": "odrl:Permission",
                "odrl:action": {"@id": f"{DUO}{use.code}", "name": use.label},
                **({"odrl:constraint": constraints} if constraints else {}),
            }
    if terms.prohibited:
        offer["odrl:prohibition"] = [
            {"@type": "odrl:Prohibition", "odrl:action": {"@type": "odrl:Action", "name": use}}
            for use in terms.prohibited
        ]
    yield offer


def _constraint(use: DataUse) -> dict[str, Any]:
    return {
        "@type": "odrl:Constraint",
        "name": use.label,
        "odrl:operator": {"@id": "odrl:eq"},
        "odrl:rightOperand": {"@id": f"{DUO}{use.code}"},
    }
