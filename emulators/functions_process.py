"""The process of a Functions worker: the worker library that Functions itself runs, behind a socket instead of gRPC.

Run as `python functions_process.py FD FOLDER`. FD is a connected stream socket that carries JSON lines: requests with
`id` and `kind` (`init`, `metadata`, `invoke`, `measure`), answers with the same `id`. The process ends when the socket
does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LINE_BYTES = 256 * 2**20
ADDRESS = "127.0.0.1"


class Process:
    """Answers each request in a task of its own, as the worker's dispatcher does."""

    def __init__(self, writer: asyncio.StreamWriter, folder: str) -> None:
        import azure_functions_runtime as library  # pyright: ignore[reportMissingTypeStubs] - it has no py.typed
        import functions_protos as protos

        self.library: Any = library
        self.protos = protos
        self.writer = writer
        self.folder = folder
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self, reader: asyncio.StreamReader) -> None:
        self.library.start_threadpool_executor()
        while line := await reader.readline():
            task = asyncio.create_task(self.answer(json.loads(line)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def answer(self, request: dict[str, Any]) -> None:
        result = await getattr(self, request["kind"])(**request.get("arguments", {}))
        self.writer.write(json.dumps({"id": request["id"], "result": result}).encode() + b"\n")

    async def init(self) -> dict[str, Any]:
        began = time.perf_counter()
        sys.path.insert(0, self.folder)
        response = await self.library.worker_init_request(
            self.request(worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=self.folder))
        )
        seconds = time.perf_counter() - began
        return {**self.status(response), "capabilities": response.capabilities, "seconds": seconds}

    async def metadata(self) -> dict[str, Any]:
        response = await self.library.functions_metadata_request(self.request())
        functions = [
            {
                "name": function.name,
                "id": function.function_id,
                "bindings": [json.loads(binding) for binding in function.raw_bindings],
            }
            for function in response.function_metadata_results or ()
        ]
        return {**self.status(response), "functions": functions}

    async def invoke(
        self, invocation_id: str, function_id: str, inputs: dict[str, Any], metadata: dict[str, Any]
    ) -> dict[str, Any]:
        protos = self.protos
        response = await self.library.invocation_request(
            self.request(
                invocation_request=SimpleNamespace(
                    invocation_id=invocation_id,
                    function_id=function_id,
                    input_data=[
                        protos.ParameterBinding(name=name, data=protos.TypedData.from_wire(data))
                        for name, data in inputs.items()
                    ],
                    trigger_metadata={name: protos.TypedData.from_wire(data) for name, data in metadata.items()},
                    trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
                    retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
                )
            )
        )
        value = getattr(response, "return_value", None)
        outputs = {output.name: output.data.to_wire() for output in getattr(response, "output_data", ())}
        return {**self.status(response), "value": None if value is None else value.to_wire(), "outputs": outputs}

    async def measure(self, count: int, **call: Any) -> dict[str, Any]:
        """Invoke a function again and again, and give the seconds of each call inside the worker library."""
        seconds: list[float] = []
        result: dict[str, Any] = {"error": None, "trace": ""}
        for _ in range(count):
            began = time.perf_counter()
            result = await self.invoke(**call)
            seconds.append(time.perf_counter() - began)
            if result["error"] is not None:
                break
        return {**result, "seconds": seconds}

    def request(self, **parts: Any) -> SimpleNamespace:
        properties = {"host": ADDRESS, "protos": self.protos}
        return SimpleNamespace(request=SimpleNamespace(**parts), properties=properties)

    def status(self, response: Any) -> dict[str, Any]:
        if response.result.status == self.protos.StatusResult.Success:
            return {"error": None, "trace": ""}
        exception = response.result.exception
        return {"error": exception.message, "trace": exception.stack_trace}


async def main(descriptor: int, folder: str) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor), limit=LINE_BYTES)
    process = Process(writer, folder)
    sys.path.remove(str(Path(__file__).parent))
    await process.run(reader)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
