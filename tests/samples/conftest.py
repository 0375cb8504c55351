"""The samples are no package: their folder is what a deployment puts beside its app."""

import sys
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
sys.path += [str(SAMPLES), str(SAMPLES / "webhook_channel")]
