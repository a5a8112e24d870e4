"""`nbdev_test`, each page in a process of its own: `python .ci/pages.py [PAGE or FOLDER ...]`.

The processes are forks of one that has imported what most pages need, so that a page finds it,
and its memory is free when it ends. Pages and cells are chosen as `nbdev_test` does, and run by its
own function. The table at the end shows the seconds and the memory of each page, the largest of its
process and of those that it started, the slowest page first. A page fails that needs more than
`--megabytes`.
"""

import argparse
import importlib
import os
import resource
import sys
import time
from multiprocessing import Process, get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import test_nb

PRELOADED = (
    "numba",
    "torch",
    "torch._dynamo",
    "torchio",
    "SimpleITK",
    "kornia",
    "torchmetrics",
    "scipy.optimize",
    "matplotlib.pyplot",
    "pyvista",
)


class Result(NamedTuple):
    "What the process of a page says at its end."

    passed: bool
    processor: float  # [s], of all threads and of the processes that it started
    megabytes: int


class Page(NamedTuple):
    "A page that has ended."

    path: Path
    result: Result
    seconds: float


class Running(NamedTuple):
    "A page in its process."

    path: Path
    process: Process
    results: Connection
    since: float


def pages(places: list[str], ignore: str = ".notest") -> list[Path]:
    "The pages that `nbdev_test` takes."
    found = {path for place in places or [None] for path in nbglob(place, as_path=True)}
    paths = sorted(path.absolute() for path in found)
    return [path for path in paths if not (path.parent / ignore).exists()]


def run(path: Path, flags: list[str], results: Connection) -> None:
    "Run a page in this process, and send whether it passed and its memory."
    config = get_config()
    passed, _ = test_nb(path, config.tst_flags.split(), flags, basepath=config.config_path)
    sys.stderr.flush()
    usages = [resource.getrusage(k) for k in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    megabytes = max(usage.ru_maxrss for usage in usages) // 1024
    results.send((bool(passed), processor, megabytes))  # the page's shell is `__main__` now


def start(path: Path, flags: list[str]) -> Running:
    context = get_context("fork")
    sys.stdout.flush()  # or the process would write it again
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(path, flags, sender))
    process.start()
    sender.close()
    return Running(path, process, receiver, time.monotonic())


def ended(running: Running, megabytes: int) -> Page:
    "What became of a page whose process is about to end."
    try:
        result = Result(*running.results.recv())
    except EOFError:
        result = Result(False, 0.0, 0)
    running.process.join()
    seconds = time.monotonic() - running.since
    if running.process.exitcode != 0:
        result = result._replace(passed=False)
        print(f"{running.path}: exit code {running.process.exitcode}", file=sys.stderr)
    if result.megabytes > megabytes:
        print(f"{running.path}: {result.megabytes} MB, {megabytes} are accepted", file=sys.stderr)
        result = result._replace(passed=False)
    return Page(running.path, result, seconds)


def run_all(paths: list[Path], flags: list[str], workers: int, megabytes: int) -> list[Page]:
    "All pages, so many at a time."
    waiting, running, done = list(paths), dict[Connection, Running](), []
    while waiting or running:
        while waiting and len(running) < workers:
            page = start(waiting.pop(0), flags)
            running[page.results] = page
        done += [ended(running.pop(results), megabytes) for results in wait(list(running))]
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", help="pages and folders; all pages if not given")
    parser.add_argument("--flags", default="", help="test flags to run that are normally ignored")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--megabytes", type=int, default=4096, help="accepted for one page")
    o = parser.parse_args()
    paths = pages(o.places)
    if not paths:
        sys.exit("no pages to test")
    for name in PRELOADED:
        importlib.import_module(name)
    with working_directory(get_config().nbs_path):
        done = run_all(paths, o.flags.split(), o.workers, o.megabytes)
    print("\nseconds, of all processors, megabytes, page:")
    for page in sorted(done, key=lambda page: -page.seconds):
        numbers = f"{page.seconds:6.1f} {page.result.processor:6.1f} {page.result.megabytes:6d}"
        print(f"{numbers}  {page.path.relative_to(Path.cwd())}")
    minutes = sum(page.result.processor for page in done) / 60
    most = max(page.result.megabytes for page in done)
    print(f"{len(done)} pages, {minutes:.1f} minutes of processors, at most {most} MB")
    sys.stdout.flush()
    failed = sorted(
        str(page.path.relative_to(Path.cwd())) for page in done if not page.result.passed
    )
    if failed:
        names = "\n\t".join(failed)
        print(f"\nTests Failed On The Following Notebooks:\n\t{names}", file=sys.stderr)
        sys.exit(1)
    print("Success.")


if __name__ == "__main__":
    main()
