"""Random programs of the reproducible namespace's functions, whose bits must agree everywhere.

    python scripts/checks/fuzz_namespace.py [--programs 1000] [--minutes 10] [--libraries …]
    python scripts/checks/fuzz_namespace.py --shapes few --numbers 10 --libraries numpy,jax

A program starts with random arrays: of all dtypes, of no to three axes, of special values, huge,
tiny and ordinary numbers. Each of its operations takes arrays from those that are there, and
its results join them. After every operation the bits of all results are compared with those of the
first library. An operation that is an error must be one on every library. All libraries could be
wrong alike: what NumPy's own function makes of the same finite numbers must be near, if it has the
function. Exit status 1 if one differs; the last line then says which, in which program.

JAX compiles every operation anew for each shape, some 20 of them for a sine. With ``--shapes few``
the arrays of a program have one of six shapes, so that most operations have been compiled by an
earlier program; results of other shapes are compared, and then left. With ``--numbers 10`` each
program runs ten times, with other numbers in its arrays, masks and indices, for which nothing is
compiled again.
"""

import argparse
import collections
import math
import operator
import sys
import time
import warnings

import array_api_compat.numpy as oracle
import numpy as np

from xpnn import reproducible
from xpnn.cli.options import listed
from xpnn.reproducible.dtypes import FLOATS, INTEGERS, KEPT, UNSIGNED

SPECIAL = (
    *(0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, 5e-324, -2.3e-308, 1.8e308, 1e-45),
    *(-3.5e38, math.pi, math.pi / 2, 1e300, -1e-300, 2.0**53, 2.0**63, -(2.0**64)),
)
UNARY = (
    "abs acos acosh asin asinh atan atanh ceil conj cos cosh exp expm1 floor isfinite isinf isnan "
    "log log10 log1p log2 negative positive real reciprocal round sigmoid sign signbit sin sinh "
    "sqrt square tan tanh trunc bitwise_invert logical_not"
)
BINARY = (
    "add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal "
    "logaddexp maximum minimum multiply nextafter not_equal pow remainder subtract bitwise_and "
    "bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift logical_and logical_or "
    "logical_xor"
)
OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    ">=": operator.ge,
    "==": operator.eq,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}
REDUCTIONS = "all any argmax argmin count_nonzero max mean min prod std sum var"
ALGEBRA = "inv det slogdet qr cholesky solve vector_norm matrix_norm trace random"
# the largest number of elements of an array that a program goes on with
LARGEST = 400
FEW = ((), (0,), (3,), (1, 3), (3, 1), (3, 3))


def numbers(rng, dtype, shape):
    """Return a host array of random numbers, some of them special."""
    size = math.prod(shape)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        small = rng.integers(0 if dtype in UNSIGNED else -9, 10, size)
        any_ = rng.integers(info.min, info.max, size, dtype=dtype, endpoint=True)
        ends = rng.choice([info.min, info.max], size)
        kind = rng.integers(0, 5, size)
        values = np.where(
            kind < 3, small.astype(dtype), np.where(kind == 3, any_, ends.astype(dtype))
        )
        return values.astype(dtype).reshape(shape)
    kind = rng.choice(["ordinary", "small", "wide", "mixed", "equal", "whole"])
    chosen = rng.choice(SPECIAL, size)
    ordinary = rng.normal(size=size) * 3
    wide = np.ldexp(rng.uniform(-1, 1, size), rng.integers(-1074, 1024, size))
    values = {
        "ordinary": ordinary,
        "small": rng.uniform(-1, 1, size),
        "wide": wide,
        "mixed": np.choose(rng.integers(0, 3, size), (ordinary, wide, chosen)),
        "equal": np.round(ordinary),
        "whole": rng.integers(-9, 10, size).astype(float),
    }[kind]  # fmt: skip
    return values.astype(dtype).reshape(shape)


def shape_of(rng, few=False):
    if few:
        return FEW[rng.choice(len(FEW), p=[0.1, 0.05, 0.3, 0.15, 0.1, 0.3])]
    return tuple(
        int(n)
        for n in rng.choice(
            [0, 1, 2, 3, 5, 17], rng.integers(0, 4), p=[0.05, 0.15, 0.2, 0.25, 0.25, 0.1]
        )
    )


def scalar(rng, dtype):
    """Return a Python number, now and then one that the dtype can't have."""
    if dtype == "bool":
        return bool(rng.integers(0, 2))
    if dtype in INTEGERS:
        return int(rng.choice([0, 1, 2, 3, 7, 100, 127, 255, 300, -1, -2]))
    return (
        float(rng.choice([*SPECIAL, 0.1, 1 / 3, 2.0, 3.0, -0.5, 1e-40]))
        if rng.random() < 0.9
        else int(rng.integers(-5, 6))
    )


def axis_of(rng, x):
    return int(rng.integers(-x.ndim, x.ndim)) if x.ndim else -1


def key_of(rng, x):
    """Return a key without arrays."""
    parts = []
    for n in x.shape:
        match rng.integers(0, 5):
            case 0 if n:
                parts.append(int(rng.integers(-n, n)))
            case 1:
                parts.append(slice(None, None, int(rng.choice([-2, -1, 1, 2]))))
            case 2:
                low, high = sorted(rng.integers(0, n + 1, 2).tolist())
                parts.append(slice(low, high))
            case 3:
                parts += [None, slice(None)]
            case _:
                parts.append(slice(None))
    if rng.random() < 0.2:
        parts = [*parts[: rng.integers(0, len(parts) + 1)], Ellipsis]
        if sum(p is not None for p in parts) - 1 > x.ndim:
            parts = [Ellipsis]
    return tuple(parts)


class Program:
    """A program: it draws operations, and tells the arrays by their numbers in the pool.

    The operations depend on the seed, the numbers in arrays on `numbers` too.
    """

    def __init__(self, seed, few=False, numbers=0):
        self.rng = np.random.default_rng(seed)
        self.values = np.random.default_rng([seed, numbers])
        self.few = few

    def start(self):
        """Return the host arrays that it begins with."""
        first = self.rng.choice(KEPT)
        dtypes = [
            first,
            first,
            *self.rng.choice(KEPT, 2),
            self.rng.choice(FLOATS),
            self.rng.choice(FLOATS),
        ]
        shape = shape_of(self.rng, self.few)
        others = [shape_of(self.rng, self.few) for _ in range(2)]
        shapes = [shape, shape, others[0], shape, shape, others[1]]
        return [numbers(self.values, d, s) for d, s in zip(dtypes, shapes, strict=True)]

    def draw(self, pool, names):
        """Return the name of an operation, numbers of its arrays, and ``function(xp, *arrays)``."""
        rng = self.rng
        i, j = (int(k) for k in rng.integers(0, len(pool), 2))
        same = [k for k, d in enumerate(names) if d == names[i]]
        j = int(rng.choice(same)) if rng.random() < 0.8 else j
        x, dtype = pool[i], names[i]
        match rng.integers(0, 21):
            case 0 | 1 | 2:
                name = str(rng.choice(UNARY.split()))
                return name, (i,), lambda xp, a: getattr(xp, name)(a)
            case 3 | 4 | 5:
                name = str(rng.choice(BINARY.split()))
                return name, (i, j), lambda xp, a, b: getattr(xp, name)(a, b)
            case 6:
                name, number = str(rng.choice([*OPERATORS])), scalar(rng, dtype)
                left = rng.random() < 0.5
                function = OPERATORS[name]
                return (
                    f"{name} {number!r}",
                    (i,),
                    lambda xp, a: function(number, a) if left else function(a, number),
                )
            case 7:
                name = str(rng.choice([*OPERATORS]))
                function = OPERATORS[name]
                return name, (i, j), lambda xp, a, b: function(a, b)
            case 8 | 9:
                name = str(rng.choice(REDUCTIONS.split()))
                axis = None if rng.random() < 0.3 else axis_of(rng, x)
                keep = bool(rng.integers(0, 2))
                return (
                    f"{name} axis={axis}",
                    (i,),
                    lambda xp, a: getattr(xp, name)(a, axis=axis, keepdims=keep),
                )
            case 10:
                name, initial = (
                    str(rng.choice(["cumulative_sum", "cumulative_prod"])),
                    bool(rng.integers(0, 2)),
                )
                axis = axis_of(rng, x)
                return (
                    name,
                    (i,),
                    lambda xp, a: getattr(xp, name)(a, axis=axis, include_initial=initial),
                )
            case 11:
                target = str(rng.choice(KEPT))
                return f"astype {target}", (i,), lambda xp, a: xp.astype(a, getattr(xp, target))
            case 12:
                key = key_of(rng, x)
                return f"[{key}]", (i,), lambda xp, a: a[key]
            case 13:
                size = x.shape[0] if x.ndim else 0
                low, shape = -size - (rng.random() < 0.05), shape_of(rng, self.few)
                index = self.values.integers(low, size, shape) if size else np.zeros(0, int)
                return "[integers]", (i,), lambda xp, a: a[xp.asarray(index)]
            case 14:
                key, number = key_of(rng, x), scalar(rng, dtype)

                def assign(xp, a, *b):
                    a = xp.copy(a)
                    a[key] = b[0] if b else number
                    return a

                return f"[{key}] =", (i, j) if rng.random() < 0.4 else (i,), assign
            case 15:
                mask = self.values.random(x.shape) < 0.5
                number = scalar(rng, dtype)

                def masked(xp, a):
                    m = xp.asarray(mask)
                    chosen = a[m]
                    a = xp.copy(a)
                    a[m] = number
                    return chosen, a

                return "[mask]", (i,), masked
            case 16:
                return self.arrangement(i, j, x)
            case 17:
                down, axis = bool(rng.integers(0, 2)), axis_of(rng, x)
                name = str(
                    rng.choice(["sort", "argsort", "unique_all", "nonzero", "diff", "searchsorted"])
                )
                if name in ("sort", "argsort"):
                    return (
                        name,
                        (i,),
                        lambda xp, a: getattr(xp, name)(a, axis=axis, descending=down),
                    )
                if name == "searchsorted":
                    side = str(rng.choice(["left", "right"]))
                    return (
                        name,
                        (i, j),
                        lambda xp, a, b: xp.searchsorted(
                            xp.sort(xp.reshape(a, (-1,))), b, side=side
                        ),
                    )
                if name == "diff":
                    return name, (i,), lambda xp, a: xp.diff(a, axis=axis)
                return name, (i,), lambda xp, a: getattr(xp, name)(a)
            case 18:
                name = str(rng.choice(["matmul", "tensordot", "vecdot", "outer", "gram"]))
                if name == "outer":
                    return (
                        name,
                        (i, j),
                        lambda xp, a, b: xp.linalg.outer(
                            xp.reshape(a, (-1,))[:9], xp.reshape(b, (-1,))[:9]
                        ),
                    )
                if name == "gram":
                    return name, (i,), lambda xp, a: xp.matmul(a, xp.matrix_transpose(a))
                if name == "tensordot":
                    return name, (i, j), lambda xp, a, b: xp.tensordot(a, b, axes=1)
                return name, (i, j), lambda xp, a, b: getattr(xp, name)(a, b)
            case 19:
                return self.algebra(i, x)
            case _:
                condition = self.values.random(x.shape) < 0.5
                number = scalar(rng, dtype)
                which = rng.integers(0, 3)
                if which == 0:
                    return "where", (i, j), lambda xp, a, b: xp.where(xp.asarray(condition), a, b)
                if which == 1:
                    return (
                        "where number",
                        (i,),
                        lambda xp, a: xp.where(xp.asarray(condition), number, a),
                    )
                return "clip", (i,), lambda xp, a: xp.clip(a, number, None)

    def arrangement(self, i, j, x):
        rng = self.rng
        axis, shift = axis_of(rng, x), int(rng.integers(-7, 8))
        order = tuple(rng.permutation(x.ndim).tolist())
        index = self.values.integers(0, max(1, x.shape[axis] if x.ndim else 1), 4)
        functions = {
            "flip": lambda xp, a: xp.flip(a, axis=axis),
            "roll": lambda xp, a: xp.roll(a, shift, axis=axis),
            "permute_dims": lambda xp, a: xp.permute_dims(a, order),
            "reshape": lambda xp, a: xp.reshape(a, (-1,)),
            "expand_dims": lambda xp, a: xp.expand_dims(a, axis=0),
            "repeat": lambda xp, a: xp.repeat(a, 2, axis=axis),
            "tile": lambda xp, a: xp.tile(a, (2, 1)),
            "tril": lambda xp, a: xp.tril(a, k=shift // 3),
            "triu": lambda xp, a: xp.triu(a, k=shift // 3),
            "take": lambda xp, a: xp.take(a, xp.asarray(index), axis=axis),
            "take_along_axis": lambda xp, a: xp.take_along_axis(
                a, xp.argsort(a, axis=axis), axis=axis
            ),
            "unstack": lambda xp, a: xp.unstack(a, axis=axis),
            "moveaxis": lambda xp, a: xp.moveaxis(a, axis, 0),
            "broadcast_to": lambda xp, a: xp.broadcast_to(a, (2, *a.shape)),
        }  # fmt: skip
        pairs = {
            "concat": lambda xp, a, b: xp.concat([a, b], axis=axis),
            "concat all": lambda xp, a, b: xp.concat([a, b], axis=None),
            "stack": lambda xp, a, b: xp.stack([a, b], axis=axis),
            "broadcast_arrays": lambda xp, a, b: xp.broadcast_arrays(a, b),
        }
        name = str(rng.choice([*functions, *pairs]))
        return (name, (i,), functions[name]) if name in functions else (name, (i, j), pairs[name])

    def algebra(self, i, x):
        rng = self.rng
        size = 3 if self.few else int(rng.integers(1, 6))
        host = self.values.normal(size=(size, size)) * 10.0 ** rng.integers(-3, 4)
        name = str(rng.choice(ALGEBRA.split()))
        dtype = str(rng.choice(FLOATS))
        seed = int(self.values.integers(0, 2**40))

        def made(xp):
            return xp.asarray(host.astype(dtype))

        if name in ("vector_norm", "matrix_norm", "trace"):
            return name, (i,), lambda xp, a: getattr(xp.linalg, name)(a)
        if name == "cholesky":
            return (
                name,
                (i,),
                lambda xp, a: xp.linalg.cholesky(
                    made(xp) @ made(xp).mT + xp.eye(size, dtype=getattr(xp, dtype))
                ),
            )
        if name == "solve":
            return name, (i,), lambda xp, a: xp.linalg.solve(made(xp), made(xp)[:, 0])
        if name == "random":

            def draws(xp, a):
                g = xp.random(seed)
                return (
                    g.uniform((3, 2)),
                    g.normal(7, dtype=getattr(xp, dtype)),
                    g.integers(-5, 1000, 9),
                    g.permutation(6),
                    g.choice(a, 3) if a.ndim and a.shape[0] else a,
                )

            return name, (i,), draws
        return name, (i,), lambda xp, a: getattr(xp.linalg, name)(made(xp))


def bits(array):
    """Return dtype, shape and bytes of a result."""
    host = np.asarray(array)
    return str(host.dtype), host.shape, host.tobytes()


def results(value):
    """Return the arrays of a result, which may be several."""
    return [*value] if isinstance(value, (tuple, list)) else [value]


# what the standard leaves open: integers of floats out of their range, signs of vectors
FREE = ("astype", "qr", "eigh", "svd")


def far(name, function, operands, found):
    """Return how results differ from those of NumPy itself by more than roundings, or None."""
    numbers = [np.abs(x[x != 0].astype(float)) for x in operands]
    # numbers below the normal ones are 0
    if (
        name.split(" ")[0] in FREE
        or "e-3" in name
        or not all(np.all((x > 1e-30) & (x < 1e30)) for x in numbers)
    ):
        return None
    try:
        theirs = results(function(oracle, *(x.copy() for x in operands)))
    except Exception:  # NumPy hasn't got it, or refuses what the standard allows
        return None
    largest = max((float(x.max()) for x in numbers if x.size), default=0.0)
    terms = max(1, *(x.size for x in operands))
    for ours, own in zip(found, theirs, strict=True):
        ours, own = np.asarray(ours), np.asarray(own)
        if ours.shape != own.shape:
            return f"{ours.shape} for NumPy's {own.shape}"
        if not np.all(np.isfinite(own)):
            continue
        single = "float32" in map(str, (ours.dtype, *(x.dtype for x in operands)))
        scale = max(largest, largest**2, float(np.max(np.abs(own), initial=0.0)))
        bound = (1e-4 if single else 1e-9) * terms * scale + 1e-30
        if np.any(np.abs(ours.astype(float) - own.astype(float)) > bound):
            return f"far from what NumPy finds\n{ours!r}\n{own!r}"
    return None


def run(seed, namespaces, steps=12, counts=None, few=False, numbers=0):
    """Run a program on all namespaces; return what differs first, or None."""
    program = Program(seed, few, numbers)
    hosts = program.start()
    pools = [[xp.asarray(host) for host in hosts] for xp in namespaces.values()]
    for step in range(steps):
        names = [str(np.asarray(a).dtype) for a in pools[0]]
        name, places, function = program.draw(pools[0], names)
        found, errors = [], []
        for xp, pool in zip(namespaces.values(), pools, strict=True):
            try:
                found.append(results(function(xp, *(pool[k] for k in places))))
                errors.append(None)
            except (
                TypeError,
                ValueError,
                IndexError,
                OverflowError,
                ArithmeticError,
                RuntimeError,
            ) as error:
                found.append([])
                errors.append(error)
        if any("failed inside CUB" in str(error) or "radix_sort" in str(error) for error in errors):
            continue  # the emulated card has no sorting
        where = f"program {seed}, numbers {numbers}, operation {step}: {name} of " + ", ".join(
            f"{names[k]}{pools[0][k].shape}" for k in places
        )
        if counts is not None:
            counts[name.split(" ")[0].split("[(")[0], errors[0] is None] += 1
        for library, error in zip(namespaces, errors, strict=True):
            if (error is None) != (errors[0] is None):
                return f"{where}: {library} {error!r}, the first {errors[0]!r}"
        expected = [bits(a) for a in found[0]]
        for library, mine in zip(namespaces, found, strict=True):
            for k, (a, one) in enumerate(zip(mine, expected, strict=True)):
                if bits(a) != one:
                    both = f"{np.asarray(a)!r}\n{np.asarray(found[0][k])!r}"
                    return f"{where}: result {k} on {library}\n{both}"
        operands = [np.asarray(pools[0][k]) for k in places]
        wrong = far(name, function, operands, found[0]) if errors[0] is None else None
        if wrong:
            return f"{where}: {wrong}"
        for pool, mine in zip(pools, found, strict=True):
            for a, first in zip(mine, found[0], strict=True):
                if first.shape in FEW if few else first.size <= LARGEST and first.ndim <= 5:
                    pool.append(a)
            del pool[: max(0, len(pool) - 12)]
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin none after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--libraries", type=listed, default="numpy,torch,jax,strict")
    parser.add_argument("--shapes", choices=["all", "few"], default="all")
    parser.add_argument("--numbers", type=int, default=1, help="how often to run each program")
    parser.add_argument("--keep-going", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    namespaces = {name: reproducible.namespace(name) for name in args.libraries}
    counts, failed, runs, begun = collections.Counter(), 0, 0, time.monotonic()
    for number in range(args.programs * args.numbers):
        if time.monotonic() - begun > 60.0 * args.minutes:
            break
        runs += 1
        if "jax" in namespaces and not runs % 500:
            sys.modules["jax"].clear_caches()  # compiled programs take gigabytes
        program, numbers = divmod(number, args.numbers)
        options = {"counts": counts, "few": args.shapes == "few", "numbers": numbers}
        difference = run(args.seed + program, namespaces, **options)
        if difference:
            print(difference, flush=True)
            failed += 1
            if not args.keep_going:
                return 1
    done = sum(n for (_, good), n in counts.items() if good)
    print(
        f"{runs} runs of {-(-runs // args.numbers)} programs, {sum(counts.values())} operations, "
        f"{done} with results, on {','.join(namespaces)}: {failed} differ"
    )
    kinds = collections.Counter()
    for (name, good), n in counts.items():
        kinds[name] += n * good
    print("no results of", *(sorted(k for k, n in kinds.items() if not n)))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
