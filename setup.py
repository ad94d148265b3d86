"""Packages conf/ as seqrec/conf; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["seqrec*"]), "seqrec.conf"],
    package_dir={"seqrec.conf": "conf"},
    package_data={"seqrec.conf": ["**/*.yaml"]},
)
