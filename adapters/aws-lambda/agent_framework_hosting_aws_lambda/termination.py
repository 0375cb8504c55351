"""The end of the process, where it is announced at all.

Lambda freezes an environment and kills it. It sends SIGTERM before that only where an extension is registered, and
then leaves 500 ms. An ordinary end of the interpreter is that of scripts and tests.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class Termination:
    """Calls `shut_down` once, on SIGTERM or at exit. The signal then ends the process as it would have.

    SIGTERM is left alone where somebody else has a handler for it, and outside the main thread: Python allows none.
    """

    def __init__(self, shut_down: Callable[[], None]) -> None:
        self._shut_down = shut_down
        self._has_signal = (
            threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        )
        if self._has_signal:
            signal.signal(signal.SIGTERM, self._on_signal)
        atexit.register(self._on_exit)

    def _on_signal(self, number: int, frame: object) -> None:
        self._on_exit()
        os.kill(os.getpid(), number)

    def _on_exit(self) -> None:
        self.withdraw()
        try:
            self._shut_down()
        except Exception:
            # The process ends all the same, with the status it would have had.
            logger.warning("Shutdown failed.", exc_info=True)

    def withdraw(self) -> None:
        """Leave both to their defaults again."""
        atexit.unregister(self._on_exit)
        if self._has_signal:
            self._has_signal = False
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
