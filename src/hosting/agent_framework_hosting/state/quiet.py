"""What the threads of obstore ask of the process: no use after a fork, and some quiet before the end.

A process whose interpreter ends while such a thread still has a word for it is aborted (SIGABRT).
"""

from __future__ import annotations

import atexit
import os
import threading
import time

from ..errors import StateUnavailable

QUIET = 0.2
PATIENCE = 2.0


class Activity:
    """The operations of a process, each of which is surrounded by it; the end of the process waits for the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._open = 0
        self._last = 0.0
        self._ending = False
        os.register_at_fork(after_in_child=self._renew_lock)

    def __enter__(self) -> None:
        """Begin an operation.

        Raises:
            StateUnavailable: The process is a fork of one that has used an object store, or it is ending.
        """
        pid = os.getpid()
        with self._lock:
            if self._pid == 0:
                self._pid = pid
                atexit.register(self._wait_for_quiet)
            elif self._pid != pid:
                raise StateUnavailable(
                    "This process was forked from one that had used an object store, whose connections do not survive "
                    "that. Start processes by spawn, or fork before the host starts up."
                )
            if self._ending:
                raise StateUnavailable("The process is ending: object stores take no more operations.")
            self._open += 1

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._open -= 1
            self._last = time.monotonic()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()  # another thread may have held the old one

    def _wait_for_quiet(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            self._ending = True
        give_up = time.monotonic() + PATIENCE
        while (now := time.monotonic()) < give_up and (self._open or now - self._last < QUIET):
            # At the process's exit there is no loop to wait on, and obstore tells nobody when it is done.
            time.sleep(0.01)


activity = Activity()
