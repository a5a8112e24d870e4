"""Measure the worth of each idea in the CPU kernel: the time of Siddon's projection without it.

    python benchmarks/ablation.py CT [--size 200] [--runs 9]

CT is a NIfTI file. Each row is the kernel alone (`diffpose.raytrace.cpu.project`, rays and volume
given), compiled from the package's source with one thing changed; the median of runs that are
interleaved between the rows. "All reads from one voxel" renders nonsense: it shows what is left
when no time is spent on memory.
"""

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from diffpose.data import read
from diffpose.drr import DRR
from diffpose.pose import RigidTransform
from diffpose.raytrace import cpu

VIEWS = {
    "front": (0.0, 0.0, 0.0),
    "side": (90.0, 0.0, 0.0),
    "oblique": (35.0, 15.0, 5.0),
    "from the feet": (0.0, 89.0, 0.0),
}
PREFETCH = """        for lane in range(LANES):
            prefetch(volume, get(lanes, AHEAD, lane))
"""
SLAB = "@compiled(cache=False, fastmath=FUSED)\ndef slab"
INLINED = 'from numba import njit\n\n\n@njit(inline="always")\ndef slab'
SORT = "    return _counting_sort(keys,"
CHANGES = {  # file, what stands there, what stands there instead
    "as it is": None,
    "air not skipped": None,
    "nothing asked for ahead": ("siddon.py", PREFETCH, ""),
    "one ray at a time": ("lanes.py", "LANES = 16\n", "LANES = 1\n"),
    # a change of who inlines is enough to stop LLVM
    "not vectorised": ("siddon.py", SLAB, INLINED),
    "rays in the order of pixels": ("order.py", SORT, "    return np.arange(n)\n" + SORT),
    "all reads from one voxel": (
        "__init__.py",
        "(shape[1] * shape[2], shape[2], 1)",
        "(0, 0, 0)",
    ),
}
KERNELS = Path(cpu.__file__).parent


def variant(name, folder):
    "The kernels' package with the change of a row, under a name of its own."
    package = name.replace(" ", "_")
    kernels = Path(folder, package, "raytrace", "cpu")
    kernels.mkdir(parents=True)
    for parent in kernels.parents[:2]:
        (parent / "__init__.py").touch()
    threads = KERNELS.parents[1] / "threads.py"
    sources = {path.name: path.read_text() for path in KERNELS.glob("*.py")}
    if CHANGES[name]:
        file, old, new = CHANGES[name]
        if old not in sources[file]:
            raise RuntimeError(f"the source has changed: {old!r} is not in {file}")
        sources[file] = sources[file].replace(old, new)
    for file, source in sources.items():
        (kernels / file).write_text(source.replace("from diffpose.", f"from {package}."))
    (kernels.parents[1] / "threads.py").write_text(threads.read_text())
    return importlib.import_module(f"{package}.raytrace.cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    drr = DRR(read(args.ct), 1020.0, args.size, 400.0 / args.size)
    occupied = cpu.occupancy(drr.density)
    rays = {}
    for view, angles in VIEWS.items():
        pose = RigidTransform.from_euler(angles, [0, 850, 0])
        rays[view] = [drr.affine_inverse(x) for x in drr.rays(pose)]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        for name in CHANGES:
            module, skip = variant(name, folder), None if name == "air not skipped" else occupied
            rows[name] = lambda view, project=module.project, skip=skip: project(
                drr.density, *rays[view], occupied=skip
            )
        for dtype in (torch.float16, torch.bfloat16, torch.int16):
            stored = (1000 * drr.density).to(dtype)
            rows[f"stored as {str(dtype)[6:]}"] = lambda view, stored=stored: cpu.project(
                stored, *rays[view], occupied=occupied
            )
        seconds = {}
        for k in range(args.runs + 1):
            for name, run in rows.items():
                for view in VIEWS:
                    start = time.perf_counter()
                    run(view)
                    if k:
                        seconds.setdefault((name, view), []).append(
                            time.perf_counter() - start
                        )  # the first run compiles
    print(f"{args.ct.name}, {args.size} x {args.size} rays, {torch.get_num_threads()} threads\n")
    print("| [ms] | " + " | ".join(VIEWS) + " |\n|---" + "|---:" * len(VIEWS) + "|")
    for name in rows:
        print(
            f"| {name} | "
            + " | ".join(f"{1000 * statistics.median(seconds[name, view]):.0f}" for view in VIEWS)
            + " |"
        )


if __name__ == "__main__":
    main()
