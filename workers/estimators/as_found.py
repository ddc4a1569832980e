"""Leaves a process as it was found: training inside it changes what is common to all of its code."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import threadpoolctl

from common.memory import THIS_PROCESS
from workers.launch.signals import StopRequest


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """Bring back variables, places of modules, BLAS threads and the memory limit at the end of this context."""
    variables, path, finders, hook = dict(os.environ), list(sys.path), list(sys.meta_path), sys.excepthook
    threads = [(library, library.num_threads) for library in threadpoolctl.ThreadpoolController().lib_controllers]
    limit = THIS_PROCESS.given_limit
    try:
        yield
    finally:
        THIS_PROCESS.restore(limit)
        for library, n in threads:
            if library.num_threads != n:
                library.set_num_threads(n)
        sys.path[:], sys.meta_path[:], sys.excepthook = path, finders, hook
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


@contextlib.contextmanager
def ctrl_c(stop: StopRequest) -> Iterator[None]:
    """Let the first Ctrl-C of this context ask for a stop, and the next one do what it did before.

    Outside of the main thread, which alone gets signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal and callable(before):
            before(number, frame)
        stop.signal = number

    if before is None:  # set by code in C, and not to be had back
        yield
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
