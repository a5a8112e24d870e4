"""Time, memory and error of rendering on the CPU, beside DiffDRR, nanodrr and RTK, in one process.

    pip install ".[peers]"
    python benchmarks/render_cpu.py CT [--sizes 200 800] [--runs 7] [--json FILE]

CT is a NIfTI file, such as a 512 x 512 x 133 chest CT. All packages render the same normalised
density from the same poses (front, side, oblique, from the feet) onto the same 400 mm detector. A
time is that of the whole way from rotation and translation to the image, or to the derivative of a
weighted sum of its pixels with respect to both (pose gradient) or to all voxels (volume gradient,
forward included); the median of runs that are interleaved between packages. Memory is the largest
growth of the process during one call. RTK has no gradient; its Joseph projector, as nanodrr and
DiffDRR's trilinear renderer, interpolates. DiffDRR's Siddon is rendered in patches above 256 x 256,
and its gradient, which keeps all samples of all rays, is left out there, as is DiffDRR's volume
gradient. The error is the largest difference, over random rays of all views, to the same integral
in float64 (of the trilinear interpolant, or of constant voxels), as a share of the largest pixel.
"""

import argparse
import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import itk
import numpy as np
import torch
from machine import cpu_name, peak_memory
from rtk_projector import rtk_projector

VIEWS = {
    "front": (0.0, 0.0, 0.0),
    "side": (90.0, 0.0, 0.0),
    "oblique": (35.0, 15.0, 5.0),
    "from the feet": (0.0, 89.0, 0.0),
}
FORWARD, POSE, VOLUME = "forward", "pose gradient", "volume gradient"
DEPTH, SDD, WIDTH = 850.0, 1020.0, 400.0  # mm


def pose_tensors(angles, gradient):
    rotation = torch.deg2rad(torch.tensor([angles])).requires_grad_(gradient)
    return rotation, torch.tensor([[0.0, DEPTH, 0.0]]).requires_grad_(gradient)


def differentiable(render, volume):
    """A function of a view and a mode from one of rotation and translation; `volume` is the tensor
    of the densities."""

    def run(angles, mode):
        rotation, translation = pose_tensors(angles, mode == POSE)
        volume.requires_grad_(mode == VOLUME)
        with torch.set_grad_enabled(mode != FORWARD):
            image = render(rotation, translation)
        if mode != FORWARD:
            torch.autograd.grad(
                (image * run.weights).sum(), (rotation, translation) if mode == POSE else volume
            )
        volume.requires_grad_(False)
        return image.detach().numpy().reshape(run.size, run.size)

    return run


def diffpose_renderer(ct, size, renderer="siddon", **kwargs):
    from diffpose.data import read
    from diffpose.drr import DRR

    drr = DRR(read(ct), SDD, size, WIDTH / size, renderer=renderer)
    return differentiable(
        lambda r, t: drr(r, t, parameterization="euler_angles", convention="ZXY", **kwargs),
        drr.density,
    )


def diffdrr_renderer(ct, size, renderer):
    from diffdrr.data import read
    from diffdrr.drr import DRR

    patch = 100 if size > 256 and renderer == "siddon" else None
    drr = DRR(read(ct), SDD, size, WIDTH / size, renderer=renderer, patch_size=patch)
    return differentiable(
        lambda r, t: drr(r, t, parameterization="euler_angles", convention="ZXY"), drr.density
    )


def nanodrr_renderer(ct, size):
    from nanodrr.camera import make_rt_inv
    from nanodrr.data import Subject
    from nanodrr.drr import DRR
    from torchio import LabelMap, ScalarImage

    from diffpose.data import read

    density = read(ct).density
    image = ScalarImage(tensor=density.data, affine=density.affine)
    subject = Subject.from_images(
        image,
        LabelMap(tensor=torch.zeros(density.data.shape, dtype=torch.int16), affine=density.affine),
        convert_to_mu=False,
    )
    drr = DRR.from_carm_intrinsics(SDD, WIDTH / size, WIDTH / size, 0.0, 0.0, size, size)
    return differentiable(
        lambda r, t: drr(
            subject, make_rt_inv(torch.rad2deg(r), t, orientation="AP", isocenter=torch.zeros(3))
        )[:, :1],
        subject.image,
    )


def rtk_renderer(ct, size):
    from diffpose.data import read
    from diffpose.pose import RigidTransform

    project = rtk_projector(read(ct), SDD, size, WIDTH / size)

    def run(angles, mode):
        pose = RigidTransform.from_euler(torch.tensor(angles).double(), [0, DEPTH, 0])
        return project(pose)

    return run


PACKAGES = {
    "diffpose, Siddon": (diffpose_renderer, {}),
    "diffpose, trilinear, exact": (diffpose_renderer, {"renderer": "trilinear"}),
    "diffpose, trilinear, 500 samples": (
        diffpose_renderer,
        {"renderer": "trilinear", "n_points": 500},
    ),
    "RTK, Joseph": (rtk_renderer, {}),
    "nanodrr, 500 samples (torch)": (nanodrr_renderer, {}),
    "DiffDRR, 500 samples": (diffdrr_renderer, {"renderer": "trilinear"}),
    "DiffDRR, Siddon": (diffdrr_renderer, {"renderer": "siddon"}),
}


def modes(name, size):
    "What a package is asked for."
    if name.startswith("RTK"):
        return (FORWARD,)
    if name.startswith("DiffDRR"):
        return (FORWARD,) if size > 256 else (FORWARD, POSE)
    return (FORWARD, POSE, VOLUME)


def true_pixels(ct, size, n_rays=1000):
    "For each method: indices [views, n] of some pixels and their values in float64."
    from diffpose.data import read
    from diffpose.drr import DRR
    from diffpose.pose import RigidTransform
    from diffpose.raytrace import reference

    subject = read(ct)
    drr = DRR(subject, SDD, size, WIDTH / size).double()
    inverse = torch.as_tensor(np.linalg.inv(subject.density.affine))
    picked = torch.randint(
        0, size * size, (len(VIEWS), n_rays), generator=torch.Generator().manual_seed(0)
    )
    truth = {"siddon": [], "trilinear": []}
    for angles, pixels in zip(VIEWS.values(), picked):
        pose = RigidTransform.from_euler(torch.tensor(angles).double(), [0, DEPTH, 0])
        source, target = drr.rays(pose, pixels=pixels)
        rays = [x @ inverse[:3, :3].T + inverse[:3, 3] for x in (source, target)]
        length = (target - source).norm(dim=-1)
        for method, values in truth.items():
            values.append((getattr(reference, method)(drr.density, *rays)[0] * length)[0].numpy())
    return picked.numpy(), {method: np.stack(values) for method, values in truth.items()}


def measure(ct, size, runs):
    "For each package: seconds and megabytes for each mode, and its error."
    torch.manual_seed(0)
    weights = torch.rand(1, 1, size, size)
    renderers, timings, memory, errors = {}, {}, {}, {}
    picked, truth = true_pixels(ct, size)
    for name, (make, kwargs) in PACKAGES.items():
        renderers[name] = make(ct, size, **kwargs)
        renderers[name].weights, renderers[name].size = weights, size
    for name, run in renderers.items():  # warm up, and look at what is rendered
        images = np.stack([run(angles, FORWARD).ravel() for angles in VIEWS.values()])
        expected = truth["siddon" if name.endswith("Siddon") else "trilinear"]
        errors[name] = float(
            abs(np.take_along_axis(images, picked, 1) - expected).max() / expected.max()
        )
        for mode in modes(name, size):
            memory[name, mode] = peak_memory(lambda: run(VIEWS["oblique"], mode))
    for k in range(runs):
        for name, run in renderers.items():
            slow = name.startswith(("DiffDRR", "nanodrr"))
            if slow and k >= (3 if size <= 256 else 1):
                continue
            for mode in modes(name, size):
                if not slow:
                    run(
                        VIEWS["front"], mode
                    )  # not timed: the package before left the caches full of its own data
                for view, angles in VIEWS.items():
                    start = time.perf_counter()
                    run(angles, mode)
                    timings.setdefault((name, mode, view), []).append(time.perf_counter() - start)
    rows = []
    for name in renderers:
        views = {
            mode: {view: statistics.median(timings[name, mode, view]) for view in VIEWS}
            for mode in modes(name, size)
        }
        rows.append(
            dict(
                name=name,
                size=size,
                seconds={mode: statistics.median(v.values()) for mode, v in views.items()},
                seconds_by_view=views,
                megabytes={mode: memory[name, mode] for mode in modes(name, size)},
                error=errors[name],
            )
        )
    return rows


def table(rows):
    "Markdown."
    size, ours = rows[0]["size"], rows[0]["seconds"]
    lines = [
        f"| {size} x {size} | "
        + " | ".join(f"{mode} [ms] | ratio" for mode in (FORWARD, POSE, VOLUME))
        + " | memory [MB] | error |",
        "|---" + "|---:" * 8 + "|",
    ]
    for row in rows:
        cells = [
            f"{1000 * row['seconds'][m]:,.0f} | {row['seconds'][m] / ours[m]:.2f}"
            if m in row["seconds"]
            else "- | -"
            for m in (FORWARD, POSE, VOLUME)
        ]
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | "
            f"{' / '.join(f'{m:,.0f}' for m in row['megabytes'].values())} | {row['error']:.0e} |"
        )
    by_name = {row["name"]: row for row in rows}
    joseph, exact, nano = (
        by_name[n]["seconds"]
        for n in ("RTK, Joseph", "diffpose, trilinear, exact", "nanodrr, 500 samples (torch)")
    )
    lines.append(
        f"\nSiddon forward takes {ours[FORWARD] / joseph[FORWARD]:.2f} of RTK's time, "
        f"its pose gradient {ours[POSE] / ours[FORWARD]:.2f} x and its volume "
        f"gradient {ours[VOLUME] / ours[FORWARD]:.2f} x forward. Exact trilinear takes "
        f"{exact[FORWARD] / nano[FORWARD]:.3f} of nanodrr's time, its pose gradient "
        f"{exact[POSE] / exact[FORWARD]:.2f} x and its volume "
        f"gradient {exact[VOLUME] / exact[FORWARD]:.2f} x forward.\n"
    )
    for view in VIEWS:
        took = [
            f"{row['name']} {1000 * row['seconds_by_view'][FORWARD][view]:,.0f} ms" for row in rows
        ]
        lines += [f"- {view}: {', '.join(took)}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 800])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to keep all numbers")
    args = parser.parse_args()
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    versions = ", ".join(
        f"{p} {version(p)}" for p in ("diffpose", "diffdrr", "nanodrr", "itk-rtk", "torch", "numba")
    )
    machine = (
        f"{args.ct.name}; {torch.get_num_threads()} threads of {cpu_name()}; "
        f"Python {platform.python_version()}; {versions}"
    )
    print(machine + "\n", flush=True)
    results = []
    for size in args.sizes:
        results += (rows := measure(args.ct, size, args.runs))
        print(table(rows), flush=True)
    if args.json:
        args.json.write_text(json.dumps(dict(machine=machine, results=results), indent=1) + "\n")


if __name__ == "__main__":
    main()
