"""Hostile inputs of every kind, each under a limit on time and memory, and what became of them.

    python benchmarks/hostile.py [--n 200] [--seed 0] [--only files drr ...] [--json FILE]

files: damaged CTs, X-rays and tables of structures, see `hostile_files.py`, and whole ones in odd
dialects of their formats, see `hostile_dialects.py`.
renderings: random calls of `render`, see `hostile_renderings.py`.
drr: `DRR` and `Detector` with odd arguments, see `hostile_drr.py`.
commands: command lines with odd options and damaged files, see `hostile_commands.py`.
registrations: X-rays that hold nothing, see `hostile_registrations.py`.

`--n` is the number of renderings and of `DRR`s; of the slower kinds there are fewer. An input is
*refused* if an error tells what is wrong (a registration: if it does not claim success), *right* if
its result is, *undetectable* if a file's damage shows nowhere, *wrong* if a result is accepted
that should not be, *crashed* if another exception is raised or the process ends, and *hung* if it
takes longer than `--seconds`. The exit code is 1 if an input is wrong, crashed or hung.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hostile_files
from hostile_files import Outcome

COLUMNS = ("refused", "right", "undetectable", "wrong", "crashed", "hung")
BAD = ("wrong", "crashed", "hung")
# Of each kind, how many inputs are tried for a rendering
PARTS = dict(files=1 / 40, renderings=1, drr=1, commands=1 / 2, registrations=1 / 5)


class Tried(NamedTuple):
    "An input and what became of it."

    kind: str
    what: str
    outcome: Outcome


# A child process


def _judge(kind: str, folder: Path, seed: int) -> Callable[[int], Any]:
    "A function of an input's number; imported before memory is limited."
    import torch  # noqa: F401

    if kind == "renderings":
        from hostile_renderings import judge_rendering

        return partial(judge_rendering, seed)
    if kind == "drr":
        from hostile_drr import judge_drr

        return partial(judge_drr, seed)
    if kind == "registrations":
        from hostile_registrations import judge_registration

        return partial(judge_registration, seed)
    from hostile_commands import judge_command

    import diffpose.registration
    import diffpose.visualization  # noqa: F401

    return partial(judge_command, folder, seed)


def _child(kind: str, folder: str, seed: str, n: str, memory: str, begin: str) -> None:
    "Judge inputs one by one, and say what became of each."
    out = os.fdopen(os.dup(1), "w")
    judge = _judge(kind, Path(folder), int(seed))
    hostile_files.limit_memory(int(memory))
    for k in range(int(begin), int(n)):
        print(json.dumps(["begin", k]), file=out, flush=True)
        since = time.monotonic()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                outcome, words = judge(k)
        except Exception:
            outcome, words = "crashed", traceback.format_exc(limit=-2)
        words = words.encode(errors="replace").decode()
        facts = [outcome, k, words, time.monotonic() - since]
        print(json.dumps(facts), file=out, flush=True)


# All kinds


def try_files(n: int, seed: int, seconds: float, memory: int, folder: Path) -> list[Tried]:
    "Damaged files, n of each format and kind of damage."
    inputs = list(hostile_files.cts(folder / "cts", n, seed))
    inputs += list(hostile_files.xrays(folder / "xrays", n, seed + 1))
    inputs += list(hostile_files.structures(folder / "structures", n, seed + 2))
    inputs += hostile_files.dialects(folder / "dialects")
    tried = []
    for x, outcome in zip(inputs, hostile_files.run(inputs, seconds, memory, folder)):
        score = hostile_files.score(x.verdict, outcome.outcome)
        words = f"{x.what}: must be {x.verdict.value}: {score}: {outcome.words}"
        name = score if score in COLUMNS else "wrong"
        tried.append(Tried("files", x.what, outcome._replace(outcome=name, words=words)))
    return tried


def try_kind(
    kind: str, n: int, seed: int, seconds: float, memory: int, folder: Path
) -> list[Tried]:
    "Inputs that are made from their numbers."
    if kind == "commands":
        from hostile_commands import prepare

        prepare(folder, seed)
    fixed = [kind, str(folder), str(seed), str(n), str(memory)]

    def command(begin: int) -> list[str]:
        return [sys.executable, __file__, "--child", *fixed, str(begin)]

    outcomes = hostile_files.in_children(command, n, seconds, folder)
    return [Tried(kind, f"input {k}", outcome) for k, outcome in enumerate(outcomes)]


def table(tried: list[Tried], took: dict[str, float]) -> str:
    "Counts of each kind, in Markdown."
    lines = [f"| kind | tried | {' | '.join(COLUMNS)} | minutes | slowest [s] |"]
    lines.append("|:--" + "|--:" * (len(COLUMNS) + 3) + "|")
    for kind, seconds in took.items():
        outcomes = [x.outcome for x in tried if x.kind == kind]
        counts = Counter(x.outcome for x in outcomes)
        numbers = [len(outcomes), *(counts[name] for name in COLUMNS)]
        slowest = max((x.seconds for x in outcomes), default=0.0)
        cells = " | ".join(map(str, numbers))
        lines.append(f"| {kind} | {cells} | {seconds / 60:.1f} | {slowest:.1f} |")
    return "\n".join(lines)


def save(path: Path, facts: dict[str, Any], tried: list[Tried], took: dict[str, float]) -> None:
    "Add counts, and what went wrong, to a file: in place of those of the same run and kind."
    report = json.loads(path.read_text()) if path.exists() else {"runs": []}
    same = [
        run for run in report["runs"] if run["seed"] == facts["seed"] and run["n"] == facts["n"]
    ]
    run = same[0] if same else facts | dict(seconds={}, counts={}, failed=[])
    if not same:
        report["runs"].append(run)
    for kind, seconds in took.items():
        outcomes = [x.outcome for x in tried if x.kind == kind]
        run["seconds"][kind] = round(seconds, 1)
        run["counts"][kind] = Counter(x.outcome for x in outcomes)
    run["failed"] = [x for x in run["failed"] if x["kind"] not in took]
    run["failed"] += [
        dict(kind=x.kind, what=x.what, **x.outcome._asdict())
        for x in tried
        if x.outcome.outcome in BAD
    ]
    path.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    "A table of outcomes, and all inputs that were wrong, crashed or hung."
    from machine import cpu_name

    import diffpose

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200, help="number of renderings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=120, help="limit for one input")
    parser.add_argument("--memory", type=int, default=2**31, help="limit for one input [bytes]")
    parser.add_argument(
        "--json", type=Path, help="file that counts, and what went wrong, are added to"
    )
    o = parser.parse_args()
    machine = f"{cpu_name()}, {os.cpu_count()} cores"
    print(f"seed {o.seed}, diffpose {diffpose.__version__}, {machine}", flush=True)
    tried: list[Tried] = []
    took: dict[str, float] = {}
    for kind in o.only:
        n, since = max(1, round(o.n * PARTS[kind])), time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            limits = o.seconds, o.memory, Path(name)
            if kind == "files":
                tried += try_files(n, o.seed, *limits)
            else:
                tried += try_kind(kind, n, o.seed, *limits)
        took[kind] = time.monotonic() - since
    failed = [x for x in tried if x.outcome.outcome in BAD]
    for x in failed:
        print(f"{x.kind}, {x.what}, {x.outcome.outcome}: {x.outcome.words[:600]}")
    print(table(tried, took))
    if o.json:
        save(o.json, facts=dict(seed=o.seed, n=o.n, machine=machine), tried=tried, took=took)
    sys.exit(bool(failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:8])
    else:
        main()
