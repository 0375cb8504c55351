"""Measures what is asked for, or everything, and keeps the table of a whole run in `RESULTS.md`."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .figures import alone, figures
from .table import Row, failed, markdown

RESULTS = Path(__file__).parent / "RESULTS.md"


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    began, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    for name in figures(options.functions_python):
        if options.figures and name not in options.figures:
            continue
        print(f"{name} …", flush=True)
        try:
            found = alone(name, options.functions_python)
        except Exception as error:
            logging.getLogger(__name__).exception("%s could not be measured.", name)
            found = [failed(name, error)]
        for row in found:
            print(f"  {'  '.join(cell for cell in row.cells if cell)}", flush=True)
        rows += found
    circumstances = (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}, load {load:.1f} before and {os.getloadavg()[0]:.1f} after, "
        f"{time.monotonic() - began:.0f} s in all. Written by `make bench`; `README.md` says how it is measured."
    )
    document = f"# Results\n\n{circumstances}\n\n{markdown(rows)}"
    print(f"\n{document}", flush=True)
    if not options.figures:
        RESULTS.write_text(document)
    missed = sum(row.reached is False for row in rows)
    if missed:
        print(f"{missed} of {sum(row.reached is not None for row in rows)} targets missed.")
    return 1 if missed else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*figures(sys.executable)]
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"of {', '.join(names)}; default: all")
    parser.add_argument(
        "--functions-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter of the Functions worker: 3.13, with azure-functions-runtime and the FastAPI extension",
    )
    options = parser.parse_args(arguments)
    if unknown := sorted({*options.figures} - {*names}):
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(names)}")
    return options


def machine() -> str:
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
