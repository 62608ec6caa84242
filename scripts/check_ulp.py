"""The largest error in ulp of every function on n random points (default a million).

Every point is compared with double-double (NumPy's long double, 64 bits) and the worst hundred
with mpmath: long double's own error is 2^-11 ulp of a float64.
"""

import sys

import array_api_compat.numpy as xp
import mpmath
import numpy as np

from xpnn import reproducible


def points(name, n, rng):
    wide = np.exp(rng.uniform(-670, 690, n // 4)) * rng.choice([-1, 1], n // 4)
    small = rng.uniform(-1, 1, n // 4)
    middle = rng.uniform(-24, 24, n // 4)
    far = rng.uniform(-720, 720, n - 3 * (n // 4))
    x = np.concatenate([wide, small, middle, far])
    if name in ("log", "sqrt"):
        near = 1 + rng.uniform(-1, 1, n // 4) * 10.0 ** rng.uniform(-15, 0, n // 4)
        return np.abs(np.concatenate([x[: n - n // 4], near]))
    if name == "log1p":
        return np.where(x <= -1, -x, x)
    if name == "exp":
        return np.concatenate([x[x > -665.4], rng.uniform(709, 709.782, 10_000)])
    return x


def reference(name, x):
    mpmath.mp.prec = 200
    return [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]


def ulps(name, x, y):
    y = np.asarray(y)
    ok = np.isfinite(y) & np.isfinite(x)
    x, y = x[ok], y[ok]
    with np.errstate(all="ignore"):
        guess = getattr(np, name)(x.astype(np.longdouble))
        unit = np.spacing(np.abs(guess.astype(float)))
        error = np.abs((y - guess) / unit).astype(float)
    worst = np.argsort(error)[-100:]
    exact = reference(name, x[worst])
    real = [
        float(abs(mpmath.mpf(float(y[i])) - e) / mpmath.mpf(float(unit[i])))
        for i, e in zip(worst, exact, strict=True)
    ]
    return max(real), x[worst[int(np.argmax(real))]]


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    ns = reproducible.namespace(xp)
    for name in ["exp", "expm1", "log", "log1p", "tanh", "sqrt"]:
        x = points(name, n, np.random.RandomState(7))
        y = ns.unwrap(getattr(ns, name)(ns.asarray(x)))
        print(name, len(x), *ulps(name, x, y))
