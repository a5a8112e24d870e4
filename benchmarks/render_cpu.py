"""Time and memory of rendering on the CPU, beside DiffDRR, nanodrr and RTK, in one process.

    pip install ".[peers]"
    python benchmarks/render_cpu.py CT [--sizes 200 800] [--runs 7]

CT is a NIfTI file, such as a 512 x 512 x 133 chest CT. All packages render the same normalised density from the same poses (front,
side, oblique) onto the same 400 mm detector. A time is that of the whole way from rotation and translation to the image, or, for
the gradient, to the derivative of a weighted sum of its pixels with respect to both; the median of runs that are interleaved
between packages. Memory is the largest growth of the process during one call. RTK has no gradient. DiffDRR's Siddon is rendered in
patches above 256 x 256, and its gradient, which keeps all samples of all rays, is left out there.
"""

import argparse
import platform
import statistics
import threading
import time
from importlib.metadata import version
from pathlib import Path

import itk
import numpy as np
import psutil
import torch
from itk import RTK as rtk

VIEWS = {"front": (0.0, 0.0, 0.0), "side": (90.0, 0.0, 0.0), "oblique": (35.0, 15.0, 5.0)}
DEPTH, SDD, WIDTH = 850.0, 1020.0, 400.0  # mm


def pose_tensors(angles, gradient):
    rotation = torch.deg2rad(torch.tensor([angles])).requires_grad_(gradient)
    return rotation, torch.tensor([[0.0, DEPTH, 0.0]]).requires_grad_(gradient)


def differentiable(render):
    "A function of a view and a flag from one of rotation and translation."
    def run(angles, gradient):
        rotation, translation = pose_tensors(angles, gradient)
        with torch.set_grad_enabled(gradient): image = render(rotation, translation)
        if gradient: torch.autograd.grad((image * run.weights).sum(), (rotation, translation))
        return image.detach().numpy().reshape(run.size, run.size)
    return run


def diffpose_renderer(ct, size):
    from diffpose.data import read
    from diffpose.drr import DRR

    drr = DRR(read(ct), SDD, size, WIDTH / size)
    return differentiable(lambda r, t: drr(r, t, parameterization="euler_angles", convention="ZXY"))


def diffdrr_renderer(ct, size, renderer):
    from diffdrr.data import read
    from diffdrr.drr import DRR

    patch = 100 if size > 256 and renderer == "siddon" else None
    drr = DRR(read(ct), SDD, size, WIDTH / size, renderer=renderer, patch_size=patch)
    return differentiable(lambda r, t: drr(r, t, parameterization="euler_angles", convention="ZXY"))


def nanodrr_renderer(ct, size):
    from nanodrr.camera import make_rt_inv
    from nanodrr.data import Subject
    from nanodrr.drr import DRR
    from torchio import LabelMap, ScalarImage

    from diffpose.data import read

    density = read(ct).density
    image = ScalarImage(tensor=density.data, affine=density.affine)
    subject = Subject.from_images(image, LabelMap(tensor=torch.zeros(density.data.shape, dtype=torch.int16), affine=density.affine), convert_to_mu=False)
    drr = DRR.from_carm_intrinsics(SDD, WIDTH / size, WIDTH / size, 0.0, 0.0, size, size)
    return differentiable(lambda r, t: drr(subject, make_rt_inv(torch.rad2deg(r), t, orientation="AP", isocenter=torch.zeros(3)))[:, :1])


def rtk_renderer(ct, size):
    from diffpose.data import read
    from diffpose.pose import convert

    subject = read(ct)
    affine, spacing = subject.density.affine, np.array(subject.density.spacing)
    volume = itk.image_from_array(np.ascontiguousarray(subject.density.data[0].numpy().transpose(2, 1, 0)))
    volume.SetSpacing(spacing.tolist())
    volume.SetOrigin(affine[:3, 3].tolist())
    volume.SetDirection(itk.matrix_from_array(affine[:3, :3] / spacing))
    pixel = WIDTH / size
    Image = itk.Image[itk.F, 3]
    blank = rtk.ConstantImageSource[Image].New()
    blank.SetOrigin([-(size - 1) / 2 * pixel] * 2 + [0.0])
    blank.SetSpacing([pixel, pixel, 1.0])
    blank.SetSize([size, size, 1])
    blank.SetConstant(0.0)
    blank.Update()

    def run(angles, gradient):
        pose = convert(*(x.double() for x in pose_tensors(angles, False)), parameterization="euler_angles", convention="ZXY")
        camera = (pose.matrix @ subject.reorient.double())[0, :3].numpy()  # columns: axes of the camera, and the source
        vectors = [camera[:, 3], camera[:, 3] + SDD * camera[:, 2], -camera[:, 0], -camera[:, 1]]
        geometry = rtk.ThreeDCircularProjectionGeometry.New()
        geometry.SetRadiusCylindricalDetector(0)
        if not geometry.AddProjection(*[v.tolist() for v in vectors]): raise RuntimeError("RTK refuses the geometry")
        projector = rtk.JosephForwardProjectionImageFilter[Image, Image].New()
        projector.SetInput(0, blank.GetOutput())
        projector.SetInput(1, volume)
        projector.SetGeometry(geometry)
        projector.Update()
        return itk.array_view_from_image(projector.GetOutput())[0].copy()

    return run


PEERS = {
    "diffpose, Siddon": (diffpose_renderer, {}),
    "RTK, Joseph": (rtk_renderer, {}),
    "nanodrr, 500 samples (torch)": (nanodrr_renderer, {}),
    "DiffDRR, 500 samples": (diffdrr_renderer, {"renderer": "trilinear"}),
    "DiffDRR, Siddon": (diffdrr_renderer, {"renderer": "siddon"}),
}


def peak_memory(f):
    "Largest growth of the resident memory during f(), in MB."
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch():
        nonlocal peak
        while not done.wait(0.002): peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try: f()
    finally:
        done.set()
        watcher.join()
    return (peak - before) / 1e6


def cpu_name():
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor()


def measure(ct, size, runs):
    "Rows of the table: name, seconds forward, seconds with gradient, megabytes of both, agreement."
    torch.manual_seed(0)
    weights = torch.rand(1, 1, size, size)
    renderers, timings, memory, images = {}, {}, {}, {}
    for name, (make, kwargs) in PEERS.items():
        renderers[name] = make(ct, size, **kwargs)
        renderers[name].weights, renderers[name].size = weights, size

    def modes(name):
        return (False,) if name.startswith("RTK") or (name == "DiffDRR, Siddon" and size > 256) else (False, True)

    for name, run in renderers.items():  # warm up, and look at what is rendered
        images[name] = np.stack([run(angles, False) for angles in VIEWS.values()])
        memory[name] = [peak_memory(lambda: run(VIEWS["oblique"], gradient)) for gradient in modes(name)]
    for k in range(runs):
        for name, run in renderers.items():
            slow = name.startswith("DiffDRR") or name.startswith("nanodrr")
            if slow and k >= (3 if size <= 256 else 1): continue
            for gradient in modes(name):
                if not slow: run(VIEWS["front"], gradient)  # not timed: the package before left the caches full of its own data
                for view, angles in VIEWS.items():
                    start = time.perf_counter()
                    run(angles, gradient)
                    timings.setdefault((name, gradient, view), []).append(time.perf_counter() - start)
    rows = []
    for name in renderers:
        seconds = [statistics.median(statistics.median(timings[name, g, view]) for view in VIEWS) for g in modes(name)]
        correlation = np.corrcoef(images[name].ravel(), images["diffpose, Siddon"].ravel())[0, 1]
        rows.append((name, seconds, memory[name], correlation))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 800])
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    versions = ", ".join(f"{p} {version(p)}" for p in ("diffpose", "diffdrr", "nanodrr", "itk-rtk", "torch", "numba"))
    print(f"{args.ct.name}; {torch.get_num_threads()} threads of {cpu_name()}; Python {platform.python_version()}; {versions}\n")
    for size in args.sizes:
        rows = measure(args.ct, size, args.runs)
        ours = rows[0][1]
        print(f"| {size} x {size} | forward [ms] | ratio | forward + pose gradient [ms] | ratio | memory [MB] | with gradient [MB] | correlation |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for name, seconds, memory, correlation in rows:
            forward = f"{1000 * seconds[0]:,.0f} | {seconds[0] / ours[0]:.2f}"
            gradient = f"{1000 * seconds[1]:,.0f} | {seconds[1] / ours[1]:.2f}" if len(seconds) > 1 else "- | -"
            print(f"| {name} | {forward} | {gradient} | {memory[0]:,.0f} | {f'{memory[1]:,.0f}' if len(memory) > 1 else '-'} | {correlation:.5f} |")
        print(f"\nOwn gradient: {ours[1] / ours[0]:.2f} x forward. Forward against RTK: {ours[0] / rows[1][1][0]:.2f} of its time.\n", flush=True)


if __name__ == "__main__":
    main()
