"""All settings are in setup.cfg; this lists the bundles, whose tree setup.cfg cannot express."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def bundle_files() -> list[tuple[str, list[str]]]:
    """Every file under bundles/, to be installed below share/monai_unlearnable."""
    folders: dict[str, list[str]] = {}
    for path in sorted((ROOT / "bundles").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(ROOT)
            folders.setdefault(f"share/monai_unlearnable/{relative.parent.as_posix()}", []).append(relative.as_posix())
    return list(folders.items())


setup(data_files=bundle_files())
