"""Fits and tests the probability that a pose is right, which `registration.confidence` computes.

    python benchmarks/anypose.py CHEST --json chest.json
    python benchmarks/anypose.py PELVIS --json pelvis.json
    python benchmarks/confidence.py --fit chest.json --test pelvis.json

A registration is right if its mTRE is below 2 mm. There is a logistic regression on each of
`registration.confidence.features`; its weights are those of the greatest likelihood with a normal
prior of deviation `PRIOR`, and are printed as `WEIGHTS` of that page. The table compares what was
predicted with what was observed, on CTs and poses that had no part in the fit.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch

from diffpose.registration.confidence import WEIGHTS, Evidence, features, probability

PRIOR = 5.0
GROUPS = (0.0, 0.02, 0.2, 0.5, 0.8, 0.9, 0.98, 1.0)


def evidence_of(row):
    return Evidence(**{k: _number(v) for k, v in row["evidence"].items()})


def believed(row):
    "Is a pose more probably right than wrong?"
    return probability(evidence_of(row)) > 0.5


def load(paths):
    "Evidence and error [mm] of all rows; cases without a right answer are infinitely far off."
    rows = [row for path in paths for row in json.loads(path.read_text())["rows"]]
    rows = [row for row in rows if "evidence" in row]  # other programs say nothing of themselves
    evidence = [evidence_of(row) for row in rows]
    errors = [float("inf") if row["mTRE"] is None else row["mTRE"] for row in rows]
    return evidence, torch.tensor(errors, dtype=torch.float64)


def probabilities(paths, weights=WEIGHTS):
    "Confidence and error [mm] of all rows."
    evidence, errors = load(paths)
    return [probability(e, weights) for e in evidence], errors.tolist()


def _number(x):
    return float("nan") if x is None else x


def fit(x, right):
    "Constant and slope of a logistic regression, by Newton's method."
    x = torch.stack([torch.ones(len(x)), torch.tensor(x)], dim=1).double()
    y, w = right.double(), torch.zeros(2, dtype=torch.float64)
    for _ in range(50):
        p = torch.sigmoid(x @ w)
        gradient = x.T @ (p - y) + w / PRIOR**2
        hessian = (x.T * (p * (1 - p))) @ x + torch.eye(2) / PRIOR**2
        w = w - torch.linalg.solve(hessian, gradient)
    return tuple(w.tolist())


def print_table(name, p, errors):
    right = errors < 2
    print(f"\n{name}, {len(p)} registrations, {int(right.sum())} of them right")
    print(f"{'confidence':<14} {'n':>5} {'predicted':>9} {'observed':>9} {'beyond 5 mm':>11}")
    for low, high in pairwise(GROUPS):
        some = (p >= low) & ((p < high) | (high == 1.0))
        if not some.any():
            continue
        predicted, observed = float(p[some].mean()), float(right[some].double().mean())
        far = int((errors[some] > 5).sum())
        print(
            f"{low:.2f} to {high:.2f}   {int(some.sum()):5d} {predicted:9.3f} "
            f"{observed:9.3f} {far:11d}"
        )
    false = int(((p > 0.9) & (errors > 5)).sum())
    doubted = int(((p < 0.5) & right).sum())
    print(f"confidence above 0.9 and more than 5 mm off: {false} of {len(p)}")
    print(f"right, and confidence below 0.5: {doubted} of {int(right.sum())}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", type=Path, nargs="+", help="results of anypose.py")
    parser.add_argument("--test", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    evidence, errors = load(args.fit)
    columns = zip(*(features(e) for e in evidence))
    weights = [fit(column, errors < 2) for column in columns]
    print("WEIGHTS =", tuple(tuple(round(w, 2) for w in pair) for pair in weights))
    for name, paths in (("fitted", args.fit), ("tested", args.test)):
        if paths:
            some, off = load(paths)
            p = torch.tensor([probability(e, weights) for e in some], dtype=torch.float64)
            print_table(name, p, off)


if __name__ == "__main__":
    main()
