"""What each idea in the CPU kernel is worth: the time of Siddon's forward projection without it.

    python benchmarks/ablation.py CT [--size 200] [--runs 9]

CT is a NIfTI file. Each row is the kernel alone (`diffpose.raytrace.cpu.project`, rays and volume
given), compiled from a copy of the package with one thing changed; the median of runs that are
interleaved between the rows. "All reads from one voxel" renders nonsense: it shows what is left
when no time is spent on memory.
"""

import argparse
import importlib
import shutil
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
COMPILED = "@compiled(cache=False, fastmath=FUSED)\ndef slab"
INLINED = '@__import__("numba").njit(inline="always")\ndef slab'
RETURN = "    return _counting_sort(keys,"
STRIDES = "_Scene(shape, (shape[1] * shape[2], shape[2], 1),"
CHANGES = {  # file, what stands there, and what is to stand there
    "as it is": (),
    "air not skipped": (),
    "nothing asked for ahead": ("siddon.py", PREFETCH, ""),
    "one ray at a time": ("lanes.py", "LANES = 16\n", "LANES = 1\n"),
    "not vectorised": ("siddon.py", COMPILED, INLINED),  # inlining by numba is enough to stop LLVM
    "rays in the order of pixels": ("order.py", RETURN, f"    return np.arange(n)\n{RETURN}"),
    "all reads from one voxel": ("__init__.py", STRIDES, "_Scene(shape, (0, 0, 0),"),
}


def variant(name, folder):
    "A copy of the kernels' package with the change of a row."
    package = Path(folder, name.replace(" ", "_"))
    shutil.copytree(
        Path(cpu.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in package.glob("*.py"):
        text = path.read_text().replace("from diffpose.raytrace.cpu.", "from .")
        path.write_text(text.replace("from ...threads", "from diffpose.threads"))
    if CHANGES[name]:
        file, old, new = CHANGES[name]
        text = (package / file).read_text()
        if old not in text:
            raise RuntimeError(f"the source has changed: {old!r} is not in {file}")
        (package / file).write_text(text.replace(old, new))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(package.name)


def main():
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
