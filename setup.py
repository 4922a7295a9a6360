"""All settings are in setup.cfg; this adds the bundles, which lie beside the package and travel inside it."""

from setuptools import find_packages, setup

BUNDLES = "monai_unlearnable.bundles"
DATA = (
    "catalogs/*.yaml",
    "evidence/entries/*.json",
    "evidence/traces/*.json",
    "report/templates/*.j2",
    "report/templates/*.js",
    "victims/external/trainer/*.py",
)

setup(
    packages=[*find_packages(include=["monai_unlearnable*"]), BUNDLES],
    package_dir={BUNDLES: "bundles"},
    package_data={"monai_unlearnable": ["py.typed", *DATA], BUNDLES: ["**/*"]},
)
