"""Compiles modules in a Python of the target's version; run as a program, with nothing but the standard library.

Reads a JSON list of `[source, compiled, name]` from its standard input. `name` is the path under which tracebacks show
the module. One that does not compile is passed over: it would not run either, and packages do bring templates.
"""

from __future__ import annotations

import json
import os
import py_compile
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor

CHUNK = 50


def compile_one(job: tuple[str, str, str]) -> None:
    source, compiled, name = job
    try:
        py_compile.compile(
            source, compiled, name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    except (py_compile.PyCompileError, ValueError, RecursionError):
        return


def main() -> None:
    jobs = json.load(sys.stdin)
    if len(jobs) <= CHUNK:
        warnings.simplefilter("ignore")
        for job in jobs:
            compile_one(job)
        return
    with ProcessPoolExecutor(os.cpu_count(), initializer=warnings.simplefilter, initargs=("ignore",)) as processes:
        for _ in processes.map(compile_one, jobs, chunksize=CHUNK):
            pass


if __name__ == "__main__":
    main()
