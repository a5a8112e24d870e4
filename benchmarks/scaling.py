"""How time and memory of rendering on the CPU grow: with rays, voxels, threads and poses, and with
the type of the voxels.

    pip install ".[peers]"
    python benchmarks/scaling.py CT [--out FOLDER] [--runs 5] [--quick]

CT is a NIfTI file, such as a 512 x 512 x 133 chest CT. A time is that of the whole way from
rotation and translation to the image, or, for a gradient, to the derivative of a weighted sum of
its pixels with respect to the pose, or to the volume; the median of some runs, taken in turn, after
one in which the memory is watched, and which counts only if it took long. What is slow runs fewer
times. Memory is the largest growth of the process during one call. Air is not skipped, unless a
column says so: its share of a ray is the patient's matter, not the algorithm's.

A ray crosses sum_j |d_j| planes between voxels, where d is the piece of it within the volume, in
voxels. The cost should grow as rays x crossings, so the slope of the processor time over it is
fitted in logarithms and printed. (Processor time is that of all threads, in the run with the least
of it: other programs disturb it less than the time on the clock.) Voxels: the CT, resampled to n^3
in the same box, so that the rays stay the same. At last a fresh process renders 1536 x 1536 pixels
from 512^3 voxels of noise in float32, with a gradient, and says how much memory that took beyond
what its imports take.

Printed are Markdown tables; FOLDER gets scaling.json with all numbers, and scaling.png. Some
minutes on two cores, one with --quick.
"""

import argparse
import json
import os
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from machine import cpu_name, peak_memory
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter
from torchio import ScalarImage, Subject

import diffpose.raytrace.cpu  # noqa: F401, the renderers load it at their first call
from diffpose import renderers
from diffpose.data import REORIENT, read
from diffpose.drr import DRR
from diffpose.pose import convert

DEPTH, SDD, WIDTH = 850.0, 1020.0, 400.0  # mm
METHODS = {"Siddon": "siddon", "exact trilinear": "trilinear"}
FORWARD, POSE, VOLUME, SKIPPED = MODES = (
    "forward",
    "pose gradient",
    "volume gradient",
    "forward, air skipped",
)
DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int16": torch.int16,
}
BUDGET = 2.0  # seconds, after which a time is not measured again
COLORS = {"Siddon": "#0072B2", "exact trilinear": "#D55E00"}  # of Okabe and Ito, for all eyes
LINES = {FORWARD: "o-", POSE: "s--", VOLUME: "^:"}


def euler(batch, gradient=False):
    "Rotations and translations of oblique views around the patient."
    angles = torch.linspace(0, 90, batch + 1)[:batch] if batch > 1 else torch.full((1,), 35.0)
    rotation = torch.deg2rad(
        torch.stack([angles, torch.full_like(angles, 10.0), torch.full_like(angles, 5.0)], -1)
    )
    return rotation.requires_grad_(gradient), torch.tensor([[0.0, DEPTH, 0.0]]).repeat(
        batch, 1
    ).requires_grad_(gradient)


class Rendering:
    "Views of a volume that fills the box of a renderer's CT."

    def __init__(self, drr, volume, method, mode, batch=1):
        self.drr, self.volume, self.method, self.mode, self.batch = drr, volume, method, mode, batch
        self.scale = torch.tensor(volume.shape) / torch.tensor(drr.density.shape)
        torch.manual_seed(0)
        self.weights = torch.rand(batch, 1, drr.detector.height * drr.detector.width)

    def rays(self, rotation, translation):
        pose = convert(rotation, translation, parameterization="euler_angles", convention="ZXY")
        return ((self.drr.affine_inverse(x) + 0.5) * self.scale - 0.5 for x in self.drr.rays(pose))

    def __call__(self):
        rotation, translation = euler(self.batch, self.mode == POSE)
        volume = self.volume.detach().requires_grad_() if self.mode == VOLUME else self.volume
        with torch.set_grad_enabled(self.mode in (POSE, VOLUME)):
            image = renderers.render(
                volume,
                *self.rays(rotation, translation),
                method=METHODS[self.method],
                skip_empty=self.mode == SKIPPED,
            )
        wanted = {POSE: (rotation, translation), VOLUME: (volume,)}.get(self.mode)
        return torch.autograd.grad((image * self.weights).sum(), wanted) if wanted else image

    def crossings(self):
        "Planes between voxels that all rays cross."
        source, target = (x.double() for x in self.rays(*euler(self.batch)))
        d = target - source
        a, b = (-0.5 - source) / d, (torch.tensor(self.volume.shape) - 0.5 - source) / d
        inside = (
            torch.maximum(a, b).amin(-1).clamp(max=1) - torch.minimum(a, b).amax(-1).clamp(min=0)
        ).clamp(min=0)
        return (inside * d.abs().sum(-1)).sum().item()


def seconds(f):
    "Seconds that f() takes, and those that all processors together spend on it."
    start = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(name, renderings, runs):
    """Records of the renderings, which come with their place `x` in the series: crossings, median
    seconds, fewest processor seconds, and megabytes."""
    megabytes, times = [], []
    for _, run in renderings:
        first = []
        megabytes.append(peak_memory(lambda: first.append(seconds(run))))
        times.append(first if first[0][0] > 1 else [])  # a long call is no faster when it is warm
    for _ in range(runs):  # in turn, so that whoever else is at work disturbs all of them alike
        for (_, run), measured in zip(renderings, times):
            if sum(wall for wall, _ in measured) < BUDGET:
                measured.append(seconds(run))
    return [
        dict(
            series=name,
            x=x,
            method=run.method,
            mode=run.mode,
            rays=run.weights.numel(),
            crossings=run.crossings(),
            megabytes=mb,
            seconds=statistics.median(wall for wall, _ in t),
            processor=min(spent for _, spent in t),
            runs=len(t),
        )
        for (x, run), mb, t in zip(renderings, megabytes, times)
    ]


def each(modes):
    return [(method, mode) for method in METHODS for mode in modes]


def resampled(volume, n):
    return torch.nn.functional.interpolate(volume[None, None], (n, n, n), mode="trilinear")[0, 0]


def stored(volume, dtype):
    return (volume * 32767).round().short() if dtype == torch.int16 else volume.to(dtype)


def large_rendering(method, mode, size=1536, n=512):
    """Megabytes of the volume and of the whole process, beyond those of its imports, while a large
    image and its gradient are made."""
    rows = {}

    def work():
        volume = torch.rand(n, n, n)
        rows["volume"] = volume.nbytes / 1e6
        spacing = 360.0 / n  # mm
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = -spacing * (n - 1) / 2
        reorient = torch.tensor(REORIENT["AP"], dtype=torch.float32)
        subject = Subject(
            density=ScalarImage(tensor=volume[None], affine=affine), mask=None, reorient=reorient
        )
        drr = DRR(subject, SDD, size, WIDTH / size, renderer=METHODS[method])
        start = time.perf_counter()
        rotation, translation = euler(1, mode == POSE)
        wanted = (rotation, translation) if mode == POSE else (drr.density.requires_grad_(),)
        image = drr(rotation, translation, parameterization="euler_angles", convention="ZXY")
        gradients = torch.autograd.grad(image.mean(), wanted)
        rows["seconds"] = time.perf_counter() - start
        rows["finite"] = bool(image.max() > 0) and all(bool(g.sum().isfinite()) for g in gradients)

    return dict(method=method, mode=mode, peak=peak_memory(work), **rows)


def in_fresh_process(f, *args):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(f, *args).result()


def print_table(title, records, quantity, form):
    columns = list(dict.fromkeys((r["method"], r["mode"]) for r in records))
    print(
        f"| {title} | rays x crossings [10^6] | "
        + " | ".join(f"{method}, {mode}" for method, mode in columns)
        + " |"
    )
    print("|---|" + "---:|" * (len(columns) + 1))
    for x in dict.fromkeys(r["x"] for r in records):
        row = {(r["method"], r["mode"]): r for r in records if r["x"] == x}
        crossings = next(iter(row.values()))["crossings"] / 1e6
        print(
            f"| {x} | {crossings:,.1f} | "
            + " | ".join(form.format(quantity(row[c])) for c in columns)
            + " |"
        )
    print(flush=True)


def exponent(records):
    "Slope of the logarithm of processor seconds over that of the crossings."
    return float(
        np.polyfit(
            *np.log([[r["crossings"] for r in records], [r["processor"] for r in records]]), 1
        )[0]
    )


def print_exponents(records):
    "Exponents of each method and mode, for whole series and their upper halves; returns them."
    found = []
    print(
        "| exponent of processor time over rays x crossings | rays, "
        "all | rays, upper half | voxels, all | voxels, upper half |"
    )
    print("|---|" + "---:|" * 4)
    for method in METHODS:
        for mode in (FORWARD, POSE, VOLUME):
            row = dict(method=method, mode=mode)
            for name in ("rays", "voxels"):
                some = [
                    r
                    for r in records
                    if (r["series"], r["method"], r["mode"]) == (name, method, mode)
                ]
                row |= {
                    f"{name}, all": exponent(some),
                    f"{name}, upper half": exponent(some[len(some) // 2 :]),
                }
            found.append(row)
            print(
                f"| {method}, {mode} | "
                + " | ".join(f"{value:.2f}" for value in list(row.values())[2:])
                + " |"
            )
    print(
        "\nLinear is 1. Below it: rays that come closer share more cache lines, "
        "and what a call and a ray cost in any case weighs less."
    )
    print(
        "Above it: the same rays lie further apart in more voxels, "
        "in a volume that outgrows the caches; and a gradient has n^3 voxels to clear.\n",
        flush=True,
    )
    return found


def draw(records, path):
    fig, axs = plt.subplots(2, 3, figsize=(12, 7.2), dpi=90, layout="constrained")
    milliseconds, megabytes = (lambda r: 1e3 * r["seconds"]), (lambda r: max(r["megabytes"], 0.1))
    views = (
        ("rays", "rays x crossings", lambda r: r["crossings"], "milliseconds", milliseconds),
        ("voxels", "voxels along an edge", lambda r: r["x"], "milliseconds", milliseconds),
        (
            "storage",
            "type of a voxel",
            lambda r: list(DTYPES).index(r["x"]),
            "milliseconds",
            milliseconds,
        ),
        ("rays", "rows and columns", lambda r: r["x"], "megabytes", megabytes),
        ("threads", "threads", lambda r: r["x"], "milliseconds", milliseconds),
        (
            "batch",
            "poses",
            lambda r: r["x"],
            "milliseconds for each",
            lambda r: 1e3 * r["seconds"] / r["x"],
        ),
    )
    for ax, (name, xlabel, x, ylabel, y) in zip(axs.flat, views):
        some = [r for r in records if r["series"] == name]
        for method in METHODS:
            for mode in LINES:
                line = [r for r in some if (r["method"], r["mode"]) == (method, mode)]
                ax.plot(
                    [x(r) for r in line],
                    [y(r) for r in line],
                    LINES[mode],
                    color=COLORS[method],
                    ms=4,
                    lw=1.2,
                    label=f"{method}, {mode}",
                )
        ax.set(
            xlabel=xlabel,
            ylabel=ylabel,
            xscale="linear" if name == "storage" else "log",
            yscale="log",
        )
        ax.grid(alpha=0.3)
        low, high = ax.get_ylim()
        ax.yaxis.set_major_locator(
            LogLocator(subs=(1,) if high > 500 * low else (1, 2, 5), numticks=99)
        )
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        if xlabel != "rays x crossings":
            ax.set_xticks(
                sorted({x(r) for r in some}),
                labels=list(dict.fromkeys(r["x"] for r in some)),
                fontsize=8,
            )
            ax.xaxis.set_minor_locator(NullLocator())
    slope = np.array(
        [
            min(r["crossings"] for r in records),
            max(r["crossings"] for r in records if r["series"] == "rays"),
        ]
    )
    axs[0, 0].plot(
        slope,
        slope * min(milliseconds(r) / r["crossings"] for r in records if r["series"] == "rays") / 2,
        color="0.5",
        lw=1,
        label="slope 1",
    )
    fig.legend(
        *axs[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    fig.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path)
    parser.add_argument("--out", type=Path, default=Path("scaling"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs, all_threads = 2 if args.quick else args.runs, torch.get_num_threads()
    sizes = (64, 128, 256, 512) if args.quick else (64, 128, 256, 512, 1024, 1536)
    edges = (64, 128, 256) if args.quick else (64, 128, 256, 384, 512)
    batches = (1, 4) if args.quick else (1, 2, 4, 8, 16)
    cores, middle = (
        os.cpu_count(),
        256 if args.quick else 512,
    )  # rows and columns where they are not what varies
    threads = sorted({2**k for k in range(cores.bit_length()) if 2**k <= cores} | {cores})

    subject = read(args.ct)
    cameras = {size: DRR(subject, SDD, size, WIDTH / size) for size in {*sizes, 128, 256, 512}}
    density = cameras[256].density
    shape = " x ".join(str(n) for n in density.shape)
    machine = (
        f"{all_threads} threads of {cpu_name()}; Python {platform.python_version()}; "
        + ", ".join(f"{p} {version(p)}" for p in ("diffpose", "torch", "numba"))
    )
    print(f"{args.ct.name}, {shape} voxels; {machine}\n", flush=True)
    for dtype in DTYPES.values():  # compile, or find what was compiled
        small = stored(density[::16, ::16, ::16].contiguous(), dtype)
        for method in METHODS:
            for mode in MODES:
                if mode != VOLUME or dtype == torch.float32:
                    Rendering(cameras[64], small, method, mode)()

    milliseconds, megabytes = (lambda r: 1e3 * r["seconds"]), (lambda r: r["megabytes"])
    gradients = each((FORWARD, POSE, VOLUME))
    records = measure(
        "rays",
        [(n, Rendering(cameras[n], density, *how)) for n in sizes for how in each(MODES)],
        runs,
    )
    print_table(f"rows and columns; {shape} voxels; ms", records, milliseconds, "{:,.1f}")
    print_table("the same; MB", records, megabytes, "{:,.0f}")

    cubes = {n: resampled(density, n) for n in edges}
    by_voxels = measure(
        "voxels",
        [
            (n, Rendering(cameras[256], cube, *how))
            for n, cube in cubes.items()
            for how in gradients
        ],
        runs,
    )
    del cubes
    print_table(
        "edge of a cube of voxels; 256 rows and columns; ms", by_voxels, milliseconds, "{:,.1f}"
    )
    print_table("the same; MB", by_voxels, megabytes, "{:,.0f}")
    exponents = print_exponents(records + by_voxels)

    by_threads = []
    for n in threads:
        torch.set_num_threads(n)
        by_threads += measure(
            "threads", [(n, Rendering(cameras[middle], density, *how)) for how in gradients], runs
        )
    torch.set_num_threads(all_threads)
    print_table(f"threads; {middle} rows and columns; ms", by_threads, milliseconds, "{:,.1f}")

    by_batch = measure(
        "batch",
        [
            (n, Rendering(cameras[middle // 2], density, *how, batch=n))
            for n in batches
            for how in gradients
        ],
        runs,
    )
    print_table(
        f"poses in a batch; {middle // 2} rows and columns; ms for each",
        by_batch,
        lambda r: 1e3 * r["seconds"] / r["x"],
        "{:,.1f}",
    )

    volumes = {name: stored(density, dtype) for name, dtype in DTYPES.items()}
    by_type = measure(
        "storage",
        [
            (name, Rendering(cameras[middle], v, *how))
            for name, v in volumes.items()
            for how in each((FORWARD, POSE, SKIPPED))
        ],
        runs,
    )
    del volumes
    print_table(f"type of a voxel; {middle} rows and columns; ms", by_type, milliseconds, "{:,.1f}")
    records += by_voxels + by_threads + by_batch + by_type

    memory = [
        in_fresh_process(large_rendering, method, mode)
        for method in METHODS
        for mode in ((POSE,) if args.quick else (POSE, VOLUME))
    ]
    print(
        "| 1536 x 1536 pixels, 512^3 voxels | volume [MB] | peak [MB] | beyond "
        "the volume [MB] | volume + 1 GB | s |\n|---|---:|---:|---:|---|---:|"
    )
    for m in memory:
        beyond = m["peak"] - m["volume"]
        held = "holds" if beyond < 1000 else "does not hold"
        print(
            f"| {m['method']}, {m['mode']} | {m['volume']:,.0f} | "
            f"{m['peak']:,.0f} | {beyond:,.0f} | {held} | {m['seconds']:.1f} |"
        )
    (args.out / "scaling.json").write_text(
        json.dumps(
            dict(
                ct=args.ct.name,
                machine=machine,
                records=records,
                exponents=exponents,
                memory=memory,
            ),
            indent=1,
        )
    )
    draw(records, args.out / "scaling.png")
    print(f"\n{args.out / 'scaling.json'}, {args.out / 'scaling.png'}")


if __name__ == "__main__":
    main()
