"""Which functions of the array API standard the reproducible namespace has, library by library.

    python scripts/checks/standard.py [--libraries numpy,strict,torch,jax] [--write]

Every function that array-api-strict has is called on each library, with floats and integers. Its
result must have the dtype, the shape and nearly the values of array-api-strict's own, and the same
bits on each library. A function that is refused must say why. Prints the table of
docs/reference/reproducible-functions.md, or writes it with ``--write``. Exit status 1 if a function
neither passes nor is refused.
"""

import argparse
import re
import sys
import warnings
from pathlib import Path

import array_api_strict
import numpy as np

from xpnn import reproducible
from xpnn.cli.options import listed

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "reproducible-functions.md"
X = [[0.25, -0.5, 0.75], [0.125, 0.5, -0.875]]
Y = [[0.5, 0.75, -0.25], [1.0, -0.5, 0.375]]
UP = [[1.5, 2.0, 3.25], [1.0, 7.0, 1.125]]
WHOLE, OTHER = [[3, -1, 4], [1, -5, 9]], [[2, 6, 5], [3, 5, 1]]
SQUARE = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]]


class Inputs:
    """The arrays of the cases, on one namespace."""

    def __init__(self, xp):
        self.x, self.y, self.up = (xp.asarray(v, dtype=xp.float64) for v in (X, Y, UP))
        self.single, self.single_up = (xp.asarray(v, dtype=xp.float32) for v in (X, UP))
        self.i, self.j = (xp.asarray(v, dtype=xp.int64) for v in (WHOLE, OTHER))
        self.byte = xp.asarray(OTHER, dtype=xp.uint8)
        self.truth, self.other = (
            xp.asarray([[True, False, True]]),
            xp.asarray([[False, False, True]]),
        )
        self.flat, self.index = xp.asarray([3.0, 1.0, 2.0, 1.0]), xp.asarray([2, 0])
        self.square, self.single_square = (
            xp.asarray(SQUARE, dtype=dtype) for dtype in (xp.float64, xp.float32)
        )


def of_one(name):
    return lambda xp, v: [getattr(xp, name)(a) for a in (v.x, v.single)]


def of_two(name):
    return lambda xp, v: [getattr(xp, name)(v.x, v.y), getattr(xp, name)(v.single, v.single)]


def of_numbers(name):
    return lambda xp, v: [*of_one(name)(xp, v), getattr(xp, name)(v.i)]


def of_two_numbers(name):
    return lambda xp, v: [
        *of_two(name)(xp, v), getattr(xp, name)(v.i, v.j), getattr(xp, name)(v.byte, v.byte)
    ]  # fmt: skip


def of_bits(name):
    return lambda xp, v: [getattr(xp, name)(v.i, v.j), getattr(xp, name)(v.byte, v.byte)]


def of_truth(name):
    return lambda xp, v: [getattr(xp, name)(v.truth, v.other)]


def of_axis(name):
    return lambda xp, v: [
        getattr(xp, name)(v.x), getattr(xp, name)(v.x, axis=0),
        getattr(xp, name)(v.single, axis=-1, keepdims=True),
    ]  # fmt: skip


def of_axis_of_integers(name):
    return lambda xp, v: [*of_axis(name)(xp, v), getattr(xp, name)(v.i, axis=0)]


def each(wrapper, names):
    return {name: wrapper(name) for name in names.split()}


CASES = {
    **each(of_one, "acos asin asinh atan atanh cos cosh exp expm1 isinf isnan isfinite log1p "
           "reciprocal sin sinh tan tanh signbit"),
    **each(of_numbers, "abs ceil floor negative positive round sign square trunc conj real"),
    **{name: lambda xp, v, _name=name: [getattr(xp, _name)(a) for a in (v.up, v.single_up)]
       for name in ("acosh", "log", "log10", "log2", "sqrt")},
    **each(of_two, "atan2 copysign divide hypot logaddexp nextafter"),
    **each(of_two_numbers, "add equal floor_divide greater greater_equal less less_equal maximum "
           "minimum multiply not_equal remainder subtract"),
    **each(of_bits, "bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor"),
    **each(of_truth, "logical_and logical_or logical_xor"),
    **each(of_axis, "mean std var"),
    **each(of_axis_of_integers, "all any argmax argmin count_nonzero max min prod sum"),
    "pow": lambda xp, v: [
        xp.pow(v.up, v.y), xp.pow(v.single_up, v.single), xp.pow(v.j, v.j)
    ],
    "bitwise_invert": lambda xp, v: [xp.bitwise_invert(v.i), xp.bitwise_invert(v.truth)],
    "logical_not": lambda xp, v: [xp.logical_not(v.truth)],
    "clip": lambda xp, v: [
        *(xp.clip(a, -0.25, 0.25) for a in (v.x, v.single)), xp.clip(v.i, 0, None)
    ],
    "where": lambda xp, v: [
        xp.where(v.x > 0, v.x, v.y), xp.where(v.truth, v.single, 0.5), xp.where(v.truth, v.i, v.j)
    ],
    "arange": lambda xp, v: [xp.arange(5), xp.arange(1.0, 2.0, 0.25), xp.arange(9, 0, -2)],
    "asarray": lambda xp, v: [xp.asarray([1, 2]), xp.asarray(v.x, dtype=xp.float32)],
    "empty": lambda xp, v: [xp.empty((2, 3)) * 0.0],
    "empty_like": lambda xp, v: [xp.empty_like(v.i) * 0],
    "eye": lambda xp, v: [xp.eye(3), xp.eye(2, 3, k=1, dtype=xp.int8)],
    "from_dlpack": lambda xp, v: [xp.from_dlpack(v.x)],
    "full": lambda xp, v: [xp.full((2,), 3), xp.full(3, 0.5, dtype=xp.float32)],
    "full_like": lambda xp, v: [xp.full_like(v.x, 2.0)],
    "linspace": lambda xp, v: [xp.linspace(0, 1, 7), xp.linspace(0, 1, 4, endpoint=False)],
    "meshgrid": lambda xp, v: xp.meshgrid(v.flat, v.flat),
    "ones": lambda xp, v: [xp.ones((2, 2)), xp.ones(2, dtype=xp.bool)],
    "ones_like": lambda xp, v: [xp.ones_like(v.i)],
    "tril": lambda xp, v: [xp.tril(v.square), xp.tril(v.i, k=1)],
    "triu": lambda xp, v: [xp.triu(v.square, k=-1)],
    "zeros": lambda xp, v: [xp.zeros((2, 2)), xp.zeros(2, dtype=xp.uint16)],
    "zeros_like": lambda xp, v: [xp.zeros_like(v.single)],
    "astype": lambda xp, v: [
        *(xp.astype(a * 9.0, xp.int32) for a in (v.x, v.single)), xp.astype(v.i, xp.float32),
        xp.astype(v.x, xp.float32), xp.astype(v.single, xp.float64),
    ],
    "can_cast": lambda xp, v: [xp.asarray(xp.can_cast(xp.int8, xp.int16))],
    "finfo": lambda xp, v: [xp.asarray(float(xp.finfo(xp.float32).eps))],
    "iinfo": lambda xp, v: [xp.asarray(xp.iinfo(xp.int16).max)],
    "isdtype": lambda xp, v: [xp.asarray(xp.isdtype(v.i.dtype, "integral"))],
    "result_type": lambda xp, v: [xp.zeros(2, dtype=xp.result_type(v.single, v.x))],
    "broadcast_arrays": lambda xp, v: xp.broadcast_arrays(v.x, v.truth),
    "broadcast_to": lambda xp, v: [xp.broadcast_to(v.truth, (4, 3))],
    "concat": lambda xp, v: [xp.concat([v.x, v.single]), xp.concat([v.i, v.j], axis=None)],
    "expand_dims": lambda xp, v: [xp.expand_dims(v.x, axis=1)],
    "flip": lambda xp, v: [xp.flip(v.x), xp.flip(v.i, axis=1)],
    "moveaxis": lambda xp, v: [xp.moveaxis(v.x, 0, 1)],
    "permute_dims": lambda xp, v: [xp.permute_dims(v.i, (1, 0))],
    "repeat": lambda xp, v: [xp.repeat(v.x, 2, axis=0)],
    "reshape": lambda xp, v: [xp.reshape(v.x, (3, -1))],
    "roll": lambda xp, v: [xp.roll(v.x, 1), xp.roll(v.i, (1, 2), axis=(0, 1))],
    "squeeze": lambda xp, v: [xp.squeeze(v.truth, axis=0)],
    "stack": lambda xp, v: [xp.stack([v.x, v.y], axis=1)],
    "tile": lambda xp, v: [xp.tile(v.i, (2, 1))],
    "unstack": lambda xp, v: xp.unstack(v.x, axis=1),
    "nonzero": lambda xp, v: [*xp.nonzero(v.x), *xp.nonzero(v.single)],
    "searchsorted": lambda xp, v: [
        xp.searchsorted(xp.sort(v.flat), v.flat, side="right"),
        xp.searchsorted(xp.sort(xp.reshape(v.single, (-1,))), v.single),
    ],
    "take": lambda xp, v: [xp.take(a, v.index, axis=1) for a in (v.x, v.single)],
    "take_along_axis": lambda xp, v: [
        xp.take_along_axis(a, xp.argsort(a), axis=-1) for a in (v.x, v.single)
    ],
    **{name: lambda xp, v, _name=name: [
        getattr(xp, _name)(v.flat), getattr(xp, _name)(v.single),
        getattr(xp, _name)(v.i, axis=0, descending=True),
    ] for name in ("argsort", "sort")},
    **{name: lambda xp, v, _name=name: [
        part for a in (v.flat, v.single) for part in getattr(xp, _name)(a)
    ] for name in ("unique_all", "unique_counts", "unique_inverse")},
    "unique_values": lambda xp, v: [xp.unique_values(a) for a in (v.flat, v.single, v.i)],
    "cumulative_sum": lambda xp, v: [
        xp.cumulative_sum(a, axis=1) for a in (v.x, v.single)
    ] + [xp.cumulative_sum(v.flat)],
    "cumulative_prod": lambda xp, v: [xp.cumulative_prod(v.i, axis=0, include_initial=True)],
    "diff": lambda xp, v: [xp.diff(v.x), xp.diff(v.single), xp.diff(v.i, axis=0)],
    "matmul": lambda xp, v: [
        xp.matmul(v.x, v.square), xp.matmul(v.single, v.single_square),
        xp.matmul(v.i, xp.matrix_transpose(v.j)),
    ],
    "matrix_transpose": lambda xp, v: [xp.matrix_transpose(v.x)],
    "tensordot": lambda xp, v: [
        xp.tensordot(v.x, v.square, axes=1), xp.tensordot(v.single, v.single_square, axes=1)
    ],
    "vecdot": lambda xp, v: [
        xp.vecdot(v.x, v.y), xp.vecdot(v.single, v.single), xp.vecdot(v.i, v.j)
    ],
    "isin": lambda xp, v: [xp.isin(v.i, v.j), xp.isin(v.byte, v.byte)],
    "broadcast_shapes": lambda xp, v: [xp.asarray(xp.broadcast_shapes((2, 1), (3,)))],
    "__array_namespace_info__": lambda xp, v: [
        xp.asarray("float64" in xp.__array_namespace_info__().dtypes(kind="real floating"))
    ],
}  # fmt: skip


def of_square(name):
    return lambda xp, v: [getattr(xp.linalg, name)(m) for m in (v.square, v.single_square)]


def of_matrix(name):
    return lambda xp, v: [getattr(xp.linalg, name)(m) for m in (v.x, v.single)]


LINALG = {
    **each(of_square, "det eigvalsh inv matrix_rank trace"),
    **each(of_matrix, "pinv svdvals"),
    # the signs of vectors are open
    **{name: lambda xp, v, _name=name: [
        xp.abs(part) for m in (v.square, v.single_square) for part in getattr(xp.linalg, _name)(m)
    ] for name in ("eigh", "qr")},
    "svd": lambda xp, v: [
        xp.abs(part)
        for m in (v.x, v.single) for part in xp.linalg.svd(m, full_matrices=False)
    ],
    "slogdet": lambda xp, v: [
        part for m in (v.square, v.single_square) for part in xp.linalg.slogdet(m)
    ],
    "cholesky": lambda xp, v: [
        *of_square("cholesky")(xp, v), xp.linalg.cholesky(v.square, upper=True)
    ],
    "cross": lambda xp, v: [xp.linalg.cross(v.x, v.y), xp.linalg.cross(v.single, v.single)],
    "diagonal": lambda xp, v: [xp.linalg.diagonal(v.square, offset=1), xp.linalg.diagonal(v.i)],
    "matrix_norm": lambda xp, v: [
        *of_matrix("matrix_norm")(xp, v), xp.linalg.matrix_norm(v.x, ord=1)
    ],
    "matrix_power": lambda xp, v: [
        xp.linalg.matrix_power(m, n) for m in (v.square, v.single_square) for n in (0, 3, -2)
    ],
    "outer": lambda xp, v: [
        xp.linalg.outer(a, a) for a in (v.flat, xp.reshape(v.single, (-1,)), v.index)
    ],
    "solve": lambda xp, v: [
        xp.linalg.solve(m, m[:, 0]) for m in (v.square, v.single_square)
    ],
    "vector_norm": lambda xp, v: [
        xp.linalg.vector_norm(v.x), xp.linalg.vector_norm(v.x, axis=0, ord=1),
        xp.linalg.vector_norm(v.single),
    ],
    **{name: CASES[name] for name in ("matmul", "matrix_transpose", "tensordot", "vecdot")},
}  # fmt: skip

# what has no error
EXACT = """
__array_namespace_info__ abs all any argmax argmin argsort asarray bitwise_and bitwise_invert
bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_shapes
broadcast_to can_cast ceil clip concat conj copysign count_nonzero diagonal empty empty_like
equal expand_dims eye finfo flip floor from_dlpack full full_like greater greater_equal iinfo
isdtype isfinite isin isinf isnan less less_equal logical_and logical_not logical_or logical_xor
matrix_transpose max maximum meshgrid min minimum moveaxis negative nextafter nonzero not_equal
ones ones_like permute_dims positive real repeat reshape result_type roll round searchsorted
sign signbit sort squeeze stack take take_along_axis tile tril triu trunc unique_all
unique_counts unique_inverse unique_values unstack where zeros zeros_like
"""
OF_METHOD = """
cholesky cross det eigh eigvalsh inv matrix_norm matrix_power matrix_rank pinv qr slogdet solve svd
svdvals
"""
# of what has no bound in ulp in its docstring
ERRORS = {
    **dict.fromkeys(EXACT.split(), "exact"),
    **dict.fromkeys(OF_METHOD.split(), "that of the method in float64"),
    **dict.fromkeys(("sum", "mean", "matmul", "tensordot", "vecdot", "trace"),
                    "[that of networks](../guide/reproducibility.md#what-is-promised)"),
    **dict.fromkeys(("var", "std", "vector_norm", "arange", "linspace"), "each step is rounded"),
    **dict.fromkeys(("prod", "cumulative_prod"), "n 2^-53, in float32 n 2^-24"),
    "cumulative_sum": "ceil(log2 n) 2^-53 (2^-24) of the magnitudes", "square": "0.5 ulp",
    "outer": "0.5 ulp", "logaddexp": "2 ulp of the largest of x, y and the result",
    "floor_divide": "each step is rounded", "remainder": "exact; rounded once where signs differ",
    "diff": "0.5 ulp", "astype": "0.5 ulp",
}  # fmt: skip
# classes of scripts/bench/namespace.py
COSTS = {
    "elementwise": "abs add astype bitwise_and bitwise_invert bitwise_left_shift bitwise_or "
                   "bitwise_right_shift bitwise_xor ceil clip copysign diff divide equal floor "
                   "floor_divide greater greater_equal isfinite isinf isnan less less_equal "
                   "logical_and logical_not logical_or logical_xor maximum minimum multiply "
                   "negative nextafter not_equal reciprocal remainder round sign signbit sqrt "
                   "square subtract trunc where",
    "sums": "all any argmax argmin count_nonzero max mean min prod std sum var cumulative_sum "
            "cumulative_prod",
    "products": "matmul tensordot vecdot outer",
    "sorting and indexing": "argsort sort unique_all unique_counts unique_inverse unique_values "
                            "nonzero searchsorted take take_along_axis isin",
}  # fmt: skip


def promised(name, xp):
    """Return the error and the class of cost of a function, as the page says them."""
    owner, _, last = name.rpartition(".")
    try:
        text = getattr(xp.linalg if owner else xp, last).__doc__ or ""
    except AttributeError:
        return "", ""
    bare = last in ("matrix_transpose", "diagonal")
    bound = re.search(r"at most ([\d.]+) ulp", text)
    error = ERRORS.get(last)
    if error is None and bound:
        error = f"{bound[1]} ulp"
    elif error is None and "correctly rounded" in text:
        error = "0.5 ulp"
    elif error is None:
        raise LookupError(f"no error of {name}: give it one in ERRORS, or EXACT if it has none")
    cost = next((kind for kind, names in COSTS.items() if last in names.split()), None)
    if cost is None and owner:
        cost = "" if bare else "linalg"
    elif cost is None and (bound or last == "logaddexp"):
        cost = "transcendental"
    elif cost is None:
        cost = ""
    return error, cost


def functions():
    """Return the names of all functions of the standard, those of extensions with a dot."""
    main = [
        name
        for name in array_api_strict.__all__
        if callable(getattr(array_api_strict, name))
        and not isinstance(getattr(array_api_strict, name), type)
        and not hasattr(getattr(array_api_strict, name), "_np_dtype")
        and "flags" not in name
    ]  # fmt: skip
    algebra = [f"linalg.{name}" for name in array_api_strict.linalg.__all__]
    return sorted(main), sorted(algebra), ["fft"]


def case_of(name):
    return LINALG.get(name[7:]) if name.startswith("linalg.") else CASES.get(name)


def outcome(name, xp, reference):
    """Return "yes", why it is refused, or what is wrong; and the bits of its results."""
    owner, _, last = name.rpartition(".")
    try:
        getattr(xp.linalg if owner else xp, last)
    except AttributeError as error:
        text = str(error)
        refused = "is refused: " in text or ("reproducibly: " in text and "no such" not in text)
        return ("refused: " + text.rpartition(": ")[2] if refused else f"missing: {text}"), None
    case = case_of(name)
    if case is None:
        return "no case", None
    found = [np.asarray(a) for a in case(xp, Inputs(xp))]
    for mine, theirs in zip(found, reference(name), strict=True):
        if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
            return f"{mine.dtype}{mine.shape}, not {theirs.dtype}{theirs.shape}", None
        tolerance = 1e-6 if mine.dtype == np.float32 else 2e-13
        if not np.allclose(mine, theirs, rtol=tolerance, atol=tolerance):
            return f"{mine}, not {theirs}", None
    return "yes", [a.tobytes() for a in found]


def reference(name):
    """Return array-api-strict's own results."""
    return [np.asarray(a) for a in case_of(name)(array_api_strict, Inputs(array_api_strict))]


def table(libraries):
    """Return the rows of the table, and whether all is well."""
    namespaces = {name: reproducible.namespace(name) for name in libraries}
    rows, good = [], True
    for name in [one for group in functions() for one in group]:
        cells, first = [], None
        for library, xp in namespaces.items():
            try:
                said, bits = outcome(name, xp, reference)
            except Exception as error:  # what a library raises is what the table shall say
                said, bits = f"{library}: {type(error).__name__}: {error}", None
            if bits is not None and first is not None and bits != first:
                said = "other bits"
            first = bits if first is None else first
            good = good and (said == "yes" or said.startswith("refused: "))
            cells.append(said)
        start = " | ".join(["| " + name, *promised(name, next(iter(namespaces.values())))])
        if len(set(cells)) == 1 and cells[0].startswith("refused"):
            rows.append(f"{start} |" + " no |" * len(cells) + f" {cells[0][9:]} |")
        else:
            rows.append(f"{start} | " + " | ".join(cells) + " | |")
    return rows, good


def page(libraries):
    """Return the text of the page, and whether all is well."""
    rows, good = table(libraries)
    head = (
        "# The functions of the reproducible namespace\n\n"
        "Every function of the array API standard, called on each library with float64, float32 "
        "and integers where it takes them.\n"
        '"yes" means: dtype, shape and nearly the values of array-api-strict\'s '
        "own, and the same bits on all libraries.\n`python scripts/checks/standard.py --write` "
        "writes this page; what is promised is in\n"
        "[the guide](../guide/reproducible-namespace.md), with what\n[each class]"
        "(../guide/reproducible-namespace.md#what-it-costs) costs beside native functions; a "
        "function without\na class makes or arranges arrays. Errors are the largest ones of "
        "floats; [why](../notes/reproducible-proofs.md).\n\n"
    )
    titles = "| function | error | cost | " + " | ".join(libraries) + " | why not |\n"
    return head + titles + "|---" * (len(libraries) + 4) + "|\n" + "\n".join(rows) + "\n", good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--libraries", type=listed, default="numpy,strict,torch,jax")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    text, good = page(args.libraries)
    if args.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
