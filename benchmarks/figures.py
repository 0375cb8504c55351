"""What there is to measure, and how: each figure in an interpreter of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .table import Row


def figures(functions_python: str) -> dict[str, Callable[[], list[Row]]]:
    """Name the figures; what one needs is imported when it is measured."""

    def imports() -> list[Row]:
        from . import import_time

        return import_time.measure()

    def lambda_() -> list[Row]:
        from . import lambda_call

        return lambda_call.measure()

    def directory() -> list[Row]:
        from . import directory_turn

        return directory_turn.measure()

    def checkpoint() -> list[Row]:
        from . import latest_checkpoint

        return latest_checkpoint.measure()

    def objects() -> list[Row]:
        from . import object_turn

        return object_turn.measure()

    def acknowledgement() -> list[Row]:
        from . import acknowledgement

        return acknowledgement.measure()

    def functions() -> list[Row]:
        from . import functions_call

        return functions_call.measure(functions_python)

    def stream() -> list[Row]:
        from . import functions_stream

        return functions_stream.measure(functions_python)

    def crowd() -> list[Row]:
        from . import crowd

        return crowd.measure()

    def responses() -> list[Row]:
        from . import responses

        return responses.measure()

    def runtime() -> list[Row]:
        from . import lambda_runtime

        return lambda_runtime.measure()

    return {
        "import": imports,
        "lambda": lambda_,
        "directory": directory,
        "checkpoint": checkpoint,
        "objects": objects,
        "acknowledgement": acknowledgement,
        "functions": functions,
        "stream": stream,
        "crowd": crowd,
        "responses": responses,
        "runtime": runtime,
    }


def alone(name: str, functions_python: str) -> list[Row]:
    """Measure in a fresh interpreter: what one figure leaves in memory does not slow the next one."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as interpreter:
        return interpreter.submit(measured, name, functions_python).result()


def measured(name: str, functions_python: str) -> list[Row]:
    return figures(functions_python)[name]()
