"""The largest error in ulp of every function on n random points, against mpmath.

    python scripts/checks/ulp.py [--points 1000000] [--backends numpy,torch,jax,strict]

Every point is compared with mpmath's 120 bits, in float64 with the rest of mpmath's value beside
it, so that an error is known to 1e-10 ulp or better. Prints a row a function: the largest error,
where it is, and a hash of all results, which must be one on all backends.
"""

import argparse
import hashlib
import sys

import mpmath
import numpy as np

from xpnn._core import functions
from xpnn.backends import get_backend, to_numpy
from xpnn.cli.options import listed

BOUND = 2.0  # ulp

FUNCTIONS = {
    "exp": (lambda xp, x: xp.exp(x), mpmath.exp),
    "expm1": (lambda xp, x: xp.expm1(x), mpmath.expm1),
    "log": (lambda xp, x: xp.log(x), mpmath.log),
    "log1p": (lambda xp, x: xp.log1p(x), mpmath.log1p),
    "tanh": (lambda xp, x: xp.tanh(x), mpmath.tanh),
    "sqrt": (lambda xp, x: xp.sqrt(x), mpmath.sqrt),
    "divide": (lambda xp, x, y: x / y, mpmath.fdiv),
    "sigmoid": (lambda xp, x: functions.sigmoid(x, xp), lambda x: 1 / (1 + mpmath.exp(-x))),
}


def points(name, n):
    """Return the function's arguments: a quarter each of all magnitudes, near 0, middle, far.

    None whose result is below 2^-960, near which results are rounded to multiples of 2^-1022.
    """
    rng = np.random.RandomState(7)
    wide = np.exp(rng.uniform(-665, 690, n // 4)) * rng.choice([-1, 1], n // 4)
    small, middle = rng.uniform(-1, 1, n // 4), rng.uniform(-24, 24, n // 4)
    x = np.concatenate([wide, small, middle, rng.uniform(-720, 720, n - 3 * (n // 4))])
    if name in ("log", "sqrt"):
        near = 1 + rng.uniform(-1, 1, n // 4) * 10.0 ** rng.uniform(-15, 0, n // 4)
        return (np.abs(np.concatenate([x[: n - n // 4], near])),)
    if name == "log1p":
        return (np.where(x <= -1, -x, x),)
    if name == "exp":
        x = np.where(x < -665.4, -x, x)
        return (np.where(x > 709.78, rng.uniform(709, 709.78, n), x),)
    if name == "expm1":
        return (np.where(x > 709.78, -x, x),)
    if name == "sigmoid":
        return (np.where(x < -665.4, -x, x),)
    if name == "divide":
        y = rng.permutation(x)
        quotient = np.abs(np.log(np.abs(x)) - np.log(np.abs(y)))
        return x, np.where(quotient > 660, 3.0, y)
    return (x,)


def exact(name, arguments):
    """Return mpmath's values as float64, and what that leaves over."""
    function = FUNCTIONS[name][1]
    high, low = np.empty(len(arguments[0])), np.empty(len(arguments[0]))
    with mpmath.workprec(120):
        for i, at in enumerate(zip(*(x.tolist() for x in arguments), strict=True)):
            value = function(*map(mpmath.mpf, at))
            high[i] = value
            low[i] = value - high[i]
    return high, low


def errors(found, high, low):
    """Return the errors in units in the last place of the exact values."""
    with np.errstate(over="ignore"):
        return np.abs((found - high) - low) / np.spacing(np.abs(high))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--backends", type=listed, default="numpy,torch,jax,strict")
    args = parser.parse_args()
    names = args.backends
    backends = [get_backend(name, dtype="float64", reproducible=True) for name in names]
    good = True
    print("| function | points | largest error, ulp | at | " + " | ".join(names) + " |")
    print("|---|---:|---:|---|" + "---|" * len(names))
    for name, (function, _) in FUNCTIONS.items():
        arguments = points(name, args.points)
        high, low = exact(name, arguments)
        worst, at, hashes = 0.0, 0, []
        for backend in backends:
            with backend.scope():
                moved = [backend.asarray(x) for x in arguments]
                found = to_numpy(function(backend.xp, *moved))
            hashes.append(hashlib.sha256(found.astype("<f8").tobytes()).hexdigest()[:16])
            ulps = errors(found, high, low)
            # a NaN counts as the worst
            ulps = np.where(np.isnan(ulps), np.inf, ulps)
            if ulps.max() >= worst:
                worst, at = float(ulps.max()), int(ulps.argmax())
        good = good and worst <= BOUND and len(set(hashes)) == 1
        where = ", ".join(repr(float(x[at])) for x in arguments)
        cells = [name, str(len(high)), f"{worst:.3f}", where, *hashes]
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
