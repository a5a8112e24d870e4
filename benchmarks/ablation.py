"""What each idea in the CPU kernel is worth: the time of Siddon's forward projection without it.

    python benchmarks/ablation.py CT [--size 200] [--runs 9]

CT is a NIfTI file. Each row is the kernel alone (`diffpose.raytrace.cpu.project`, rays and volume
given), compiled from the package's source with one thing changed; the median of runs that are
interleaved between the rows. "All reads from one voxel" renders nonsense: it shows what is left
when no time is spent on memory.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

import torch

from diffpose.data import read
from diffpose.drr import DRR
from diffpose.pose import convert
from diffpose.raytrace import cpu

VIEWS = {
    "front": (0.0, 0.0, 0.0),
    "side": (90.0, 0.0, 0.0),
    "oblique": (35.0, 15.0, 5.0),
    "from the feet": (0.0, 89.0, 0.0),
}
PREFETCH = "        for lane in range(LANES): _prefetch(volume, j[AHEAD * LANES + lane])\n"
COMPILED = '@_compiled(cache=False, fastmath={"nsz", "contract"})\ndef _slab'
CHANGES = {
    "as it is": [],
    "air not skipped": [],
    "nothing asked for ahead": [(PREFETCH, "")],
    "one ray at a time": [("LANES = 16\n", "LANES = 1\n")],
    "not vectorised": [
        (COMPILED, '@njit(inline="always")\ndef _slab')
    ],  # a change of who inlines is enough to stop LLVM
    "rays in the order of pixels": [
        (
            "    return _counting_sort(keys,",
            "    return np.arange(n)\n    return _counting_sort(keys,",
        )
    ],
    "all reads from one voxel": [
        (
            "return shape, (shape[1] * shape[2], shape[2], 1), s, t,",
            "return shape, (0, 0, 0), s, t,",
        )
    ],
}


def variant(name, folder):
    "The kernels' module with the changes of a row."
    source = (
        Path(cpu.__file__).read_text().replace("cache=True, **options", "cache=False, **options")
    )
    for old, new in CHANGES[name]:
        if old not in source:
            raise RuntimeError(f"the source has changed: {old!r} is not there")
        source = source.replace(old, new)
    path = Path(folder, name.replace(" ", "_") + ".py")
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        pose = convert(
            torch.tensor([angles]),
            torch.tensor([[0.0, 850.0, 0.0]]),
            parameterization="euler_angles",
            convention="ZXY",
            degrees=True,
        )
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
