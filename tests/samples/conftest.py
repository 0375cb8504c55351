"""The samples are no package: their folder is what a deployment puts beside its app."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "samples"))
