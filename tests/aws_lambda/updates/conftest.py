"""The samples are no package: their folder is what a deployment puts beside its app."""

from tests.samples.conftest import SAMPLES

__all__ = ["SAMPLES"]
