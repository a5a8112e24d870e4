"""Success, error and time of registration to simulated fluoroscopy, beside DiffDRR with Adam and
Adam on this package's renderer.

    pip install ".[peers]"
    python benchmarks/registration.py CT [--cases 50] [--adam-cases 5] [--diffdrr-cases 1]
        [--methods register adam diffdrr clean] [--json FILE]

CT is the 512 x 512 x 133 chest CT that the example of this package was made from (LIDC-IDRI-0001).
X-rays are rendered from it by Siddon's method as 1024 x 1024 pixels of 0.3 mm, its attenuation in
1/mm; made into fluoroscopy with photon noise, scatter, blur, a circular collimator, a wire and a
nonlinear detector; and averaged to 256 x 256. They are registered with the example, a quarter of
the voxels, in DiffDRR's normalised density. Only the collimator's field is given as a mask; nothing
tells of the wire.

The first pose is off by up to 5 degrees and 15 mm (level 1), 10 and 30 (level 2), 20 and 50 (level
3), uniformly about and along each of the image's three axes at the middle of the CT, and twice as
far in depth. mTRE is over the middles of vertebrae, ribs, sternum, clavicles and scapulae,
expressed in the C-arm's frame; "across" leaves out its part along each point's ray. `register` runs
with its defaults.

Adam runs as in DiffDRR's registration tutorial: 100 x 100 pixels, global NCC, Euler angles ZXY,
learning rates 0.1 and 5, at most 500 iterations, stopped when NCC passes 0.999. It sees X-rays
without wire and collimator, which its NCC cannot leave out. Its cases are the first of each class.
DiffDRR takes minutes for each of them; with `--methods diffdrr` it runs alone, and FILE keeps what
it holds of the other methods.
"clean" cases have the same density on both sides and photon noise only; "same CT" renders their
X-rays from the example itself. NEES, the squared error divided by the predicted covariance, is six
on average if covariances are right.
"""

import argparse
import json
import math
import time
from importlib.resources import files
from pathlib import Path

import torch
from machine import cpu_name

from diffpose import se3
from diffpose.data import load_example_ct, read
from diffpose.drr import DRR
from diffpose.evaluation import Evaluator, fiducials_from_labels
from diffpose.metrics import NormalizedCrossCorrelation2d
from diffpose.pose import RigidTransform
from diffpose.registration import Registration, register
from diffpose.xray import Fluoroscopy, simulate

SDD, WIDTH, DEPTH = 1020.0, 307.2, 750.0  # mm
LEVELS = {1: (5.0, 15.0), 2: (10.0, 30.0), 3: (20.0, 50.0)}  # degrees, mm
CLASSES = {"front": 0.0, "oblique": 45.0, "side": 90.0}  # degrees about the patient's long axis
METHODS = "register", "adam", "diffdrr", "clean"
SUITE = Fluoroscopy(
    photons=2e4,
    scatter=0.15,
    blur=1.0,
    gamma=1.1,
    collimation="circle",
    collimation_size=1.0,
    wires=1,
)
PLAIN = Fluoroscopy(photons=2e4, scatter=0.15, blur=1.0, gamma=1.1)
CLEAN = Fluoroscopy(photons=2e4, scatter=0.0, blur=0.0)
LANDMARKS = [
    "vertebrae",
    "ribs",
    "sternum",
    "clavicula_left",
    "clavicula_right",
    "scapula_left",
    "scapula_right",
]


def true_poses(angle, n, generator):
    "Around a view: 15 degrees about two axes and 10 about the beam, 15 mm, 20 mm in depth."

    def draw(*widths):
        return (2 * torch.rand(n, 3, generator=generator) - 1) * torch.tensor(widths)

    rotation = draw(15.0, 15.0, 10.0) + torch.tensor([angle, 0.0, 0.0])
    translation = draw(15.0, 20.0, 15.0) + torch.tensor([0.0, DEPTH, 0.0])
    return RigidTransform.from_euler(rotation, translation)


def wrong_pose(drr, pose, level, generator):
    degrees, mm = LEVELS[level]
    draw = 2 * torch.rand(1, 6, generator=generator, dtype=torch.float64) - 1
    motion = se3.exp(
        torch.cat(
            [torch.zeros(1, 3, dtype=torch.float64), draw[:, 3:] * math.radians(degrees)], dim=-1
        )
    )
    motion[:, :3, 3] = draw[:, :3] * torch.tensor([mm, mm, 2 * mm])
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = drr.camera(pose.double()).to_world[0, :3, :3]  # the beam is its third axis
    return RigidTransform(frame @ motion @ frame.T @ pose.matrix.double())


def xrays(drr, poses, settings, seed):
    """Line integrals [n, 1, 256, 256] as a detector would tell them, and which pixels lie in the
    collimator's field."""
    images, masks = [], []
    for k in range(len(poses)):
        with torch.no_grad():
            made = simulate(drr(poses[k]), settings, seed=seed + k)
        images.append(torch.nn.functional.avg_pool2d(made.line_integrals(), 4))
        masks.append(torch.nn.functional.avg_pool2d(made.field.float(), 4) == 1)
    return torch.cat(images), torch.cat(masks)


def adam(module, target, ncc):
    "DiffDRR's tutorial; returns pose and number of renderings."
    optimizer = torch.optim.Adam(
        [{"params": [module._rotation], "lr": 1e-1}, {"params": [module._translation], "lr": 5e0}],
        maximize=True,
    )
    for n in range(1, 501):  # noqa: B007, n is returned
        optimizer.zero_grad()
        loss = ncc(target, module())
        loss.sum().backward()
        optimizer.step()
        if loss > 0.999:
            break
    return module.pose.matrix.detach(), n


def adam_method(renderer):
    "Adam on DRRs of 100 x 100 pixels of either package."
    if renderer == "diffdrr":
        from diffdrr.data import read as read_subject
        from diffdrr.drr import DRR as Renderer
        from diffdrr.metrics import NormalizedCrossCorrelation2d as Metric
        from diffdrr.registration import Registration as Module

        drr = Renderer(
            read_subject(str(files("diffpose") / "assets" / "ct.nii.gz")), SDD, 100, WIDTH / 100
        )
    else:
        drr, Metric, Module = (
            DRR(load_example_ct(), SDD, 100, WIDTH / 100),
            NormalizedCrossCorrelation2d,
            Registration,
        )

    def run(xray, mask, pose):
        rotation, translation = pose.convert("euler_angles", "ZXY")
        target = torch.nn.functional.interpolate(
            xray, (100, 100), mode="bilinear", antialias=True, align_corners=False
        )
        start = time.perf_counter()
        matrix, n = adam(
            Module(
                drr,
                rotation.float(),
                translation.float(),
                parameterization="euler_angles",
                convention="ZXY",
            ),
            target,
            Metric(),
        )
        return dict(pose=RigidTransform(matrix), seconds=time.perf_counter() - start, renders=n)

    return run


def diffpose_method(drr):
    def run(xray, mask, pose):
        result = register(drr, xray, pose, mask=mask[0])
        return dict(
            pose=result.pose, seconds=result.seconds, renders=result.n_renders, result=result
        )

    return run


def error_twist(result, truth):
    "Error [mm, mm, mm, degrees, degrees, degrees] in the frame of the result's covariance."
    P, Q, T = truth.matrix.double(), result.pose.matrix.double(), result.frame[None]
    return se3.log(T.inverse() @ P @ Q.inverse() @ T)[0] * torch.tensor(
        [1.0] * 3 + [180 / math.pi] * 3, dtype=torch.float64
    )


def run_cases(run, evaluator, drr, cases, level, seed):
    rows = []
    generator = torch.Generator().manual_seed(seed)
    for name, (poses, images, masks) in cases.items():
        for k in range(len(poses)):
            start = wrong_pose(drr, poses[k], level, generator)
            out = run(images[k : k + 1], masks[k : k + 1], start)
            error = evaluator(poses[k], out["pose"])
            row = dict(
                view=name,
                case=k,
                level=level,
                mTRE=float(error.mTRE),
                across=float(error.in_plane),
                depth=float(error.depth),
                seconds=out["seconds"],
                renders=out["renders"],
            )
            row["mTRE_before"] = float(evaluator(poses[k], start).mTRE)
            if "result" in out:
                result = out["result"]
                e = error_twist(result, poses[k])
                row |= dict(
                    similarity=result.similarity_after,
                    converged=result.converged,
                    nees=float(e @ torch.linalg.solve(result.covariance, e)),
                    error=e.tolist(),
                    deviation=result.standard_deviations.tolist(),
                    predicted=float(result.predicted_error(evaluator.fiducials).mean()),
                )
            rows.append(row)
    return rows


def quantile(rows, key, q):
    return float(torch.tensor([r[key] for r in rows], dtype=torch.float64).quantile(q))


def line(name, rows):
    def share(mm):
        return 100 * sum(r["mTRE"] < mm for r in rows) / len(rows)

    return (
        f"{name:<34} {len(rows):4d} {share(1):6.1f} {share(2):6.1f} "
        f"{quantile(rows, 'mTRE', 0.5):8.2f} {quantile(rows, 'mTRE', 0.95):8.2f} "
        f"{quantile(rows, 'across', 0.5):8.2f} {quantile(rows, 'across', 0.95):8.2f} "
        f"{quantile(rows, 'seconds', 0.5):8.2f} "
        f"{quantile(rows, 'seconds', 0.95):8.2f} {quantile(rows, 'renders', 0.5):7.0f}"
    )


HEADER = (
    f"{'':<34} {'n':>4} {'<1 mm':>6} {'<2 mm':>6} {'mTRE':>8} {'95 %':>8} "
    f"{'across':>8} {'95 %':>8} {'seconds':>8} {'95 %':>8} {'images':>7}"
)


def print_covariance(name, rows):
    rows = [r for r in rows if r["mTRE"] < 2]
    e, sd = (
        torch.tensor([r[k] for r in rows]).square().mean(0).sqrt().tolist()
        for k in ("error", "deviation")
    )

    def rms(k):
        return math.sqrt(sum(r[k] ** 2 for r in rows) / len(rows))

    nees = torch.tensor([r["nees"] for r in rows], dtype=torch.float64) / 6
    print(
        f"\n{name}, {len(rows)} cases below 2 mm: "
        f"NEES / 6 is {float(nees.mean()):.2f} on average, {float(nees.median()):.2f} in the median"
    )
    print(
        f"  {'':<10}"
        + "".join(f"{d:>10}" for d in ("right", "down", "depth", "about", "about", "about"))
        + f"{'mTRE':>10}"
    )
    for label, values, total in (("error", e, rms("mTRE")), ("predicted", sd, rms("predicted"))):
        print(
            f"  {label:<10}"
            + "".join(f"{v:10.3f}" for v in values)
            + f"{total:10.3f}   (rms; mm and degrees)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path)
    parser.add_argument(
        "--cases", type=int, default=50, help="of each class of views at each level"
    )
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3], choices=LEVELS)
    parser.add_argument("--adam-cases", type=int, default=5)
    parser.add_argument("--diffdrr-cases", type=int, default=0, help="of each class: minutes each")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--diffdrr-levels", type=int, nargs="+", default=[1, 2, 3], choices=LEVELS)
    parser.add_argument("--clean", type=int, default=20, help="clean cases of each class")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    full = DRR(read(args.ct, density="attenuation"), SDD, 1024, WIDTH / 1024)
    subject = load_example_ct()
    drr = DRR(subject, SDD, 256, WIDTH / 256)
    evaluator = Evaluator(drr, fiducials_from_labels(subject, LANDMARKS)[1])
    generator = torch.Generator().manual_seed(0)
    poses = {name: true_poses(angle, args.cases, generator) for name, angle in CLASSES.items()}

    def images_of(n, settings):
        return {name: (p[:n], *xrays(full, p[:n], settings, 1000)) for name, p in poses.items()}

    slow = {"adam", "diffdrr"} & {*args.methods}
    n_plain = max(args.adam_cases, args.diffdrr_cases) if slow else 0
    suite = images_of(args.cases, SUITE) if "register" in args.methods else {}
    plain = images_of(n_plain, PLAIN) if n_plain else {}
    print(
        f"{cpu_name()}, {torch.get_num_threads()} threads; "
        f"{len(evaluator.fiducials)} landmarks, {args.cases} cases a class",
        flush=True,
    )

    ours = diffpose_method(drr)
    results = {}

    def run(key, name, method, cases, level, seed):
        rows = results[f"{key}/{level}"] = run_cases(method, evaluator, drr, cases, level, seed)
        print(line(f"  {name}", rows), flush=True)
        return rows

    print("\n" + HEADER)
    for level in args.levels:
        degrees, mm = LEVELS[level]
        print(f"level {level}: {degrees:g} degrees, {mm:g} mm")
        if suite:
            first, images, masks = suite["front"]
            ours(images[:1], masks[:1], first[0])  # compiles
            rows = run("register", "register", ours, suite, level, level)
            for name in CLASSES:
                print(line(f"    {name}", [r for r in rows if r["view"] == name]), flush=True)
        few = {name: tuple(x[: args.adam_cases] for x in case) for name, case in plain.items()}
        if "adam" in args.methods and args.adam_cases:
            run("register/plain", "register, no wire or collimator", ours, few, level, 10 + level)
            run("adam", "Adam, this renderer", adam_method("diffpose"), few, level, 10 + level)
        few = {name: tuple(x[: args.diffdrr_cases] for x in case) for name, case in plain.items()}
        wanted = args.diffdrr_cases and level in args.diffdrr_levels
        if "diffdrr" in args.methods and wanted:
            run("diffdrr", "DiffDRR + Adam", adam_method("diffdrr"), few, level, 10 + level)

    for level in args.levels if suite else ():
        print_covariance(f"fluoroscopy, level {level}", results[f"register/{level}"])
    if args.clean and "clean" in args.methods:
        same = DRR(load_example_ct(density="attenuation"), SDD, 256, WIDTH / 256)
        fine = DRR(
            load_example_ct(density="attenuation"), SDD, 1024, WIDTH / 1024, renderer="trilinear"
        )
        for name, source in (("clean, same CT", fine), ("clean", full)):
            cases = {
                view: (p[: args.clean], *xrays(source, p[: args.clean], CLEAN, 2000))
                for view, p in poses.items()
            }
            results[name] = run_cases(diffpose_method(same), evaluator, same, cases, 1, seed=20)
            print_covariance(name, results[name])
    for row in (r for rows in results.values() for r in rows):
        for key, value in row.items():
            row[key] = (
                [float(f"{v:.4g}") for v in value]
                if isinstance(value, list)
                else float(f"{value:.4g}")
                if isinstance(value, float)
                else value
            )
    if args.json:
        save(args.json, results)


def save(path, results):
    "What the file holds of other methods stays."
    before = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    machine = f"{torch.get_num_threads()} threads of {cpu_name()}; torch {torch.__version__}"
    kept = before.get("machine", machine)
    path.write_text(json.dumps(dict(machine=kept, cases=before["cases"] | results)) + "\n")


if __name__ == "__main__":
    main()
