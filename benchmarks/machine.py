"""The machine of a benchmark: its processor, and how much memory a call takes."""

import ctypes
import gc
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import psutil


def peak_memory(f: Callable[[], object]) -> float:
    "Largest growth of the resident memory during f(), in MB."
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:
        trim(0)  # give back what was freed: a call that takes it again would seem to need nothing
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        f()
    finally:
        done.set()
        watcher.join()
    return (peak - before) / 1e6


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()
