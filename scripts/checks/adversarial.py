"""Give every function of the reproducible namespace arrays that libraries treat in their own ways.

    python scripts/checks/adversarial.py [--libraries numpy,strict,torch,jax]

The functions, and how each is called, are those of `standard`; what it is called with is a kind of
`KINDS`. Prints a Markdown table of the kinds: how many calls have results, with the same bits on
every library, and for which functions at least one call is an error, on every library. Exit status
1 if a library has other bits, no error, a zero or NaN with a sign, or changes what it was given.
"""

import argparse
import sys
import warnings

import numpy as np

from scripts.checks import standard
from xpnn import reproducible
from xpnn.cli.options import listed
from xpnn.reproducible.dtypes import FLOATS, KEPT

# what sorts, or is called with what is sorted
SORTING = """
argsort isin searchsorted sort take_along_axis unique_all unique_counts unique_inverse unique_values
linalg.eigh linalg.eigvalsh linalg.matrix_rank linalg.pinv linalg.svd linalg.svdvals
"""


def of_bits(dtype, *patterns):
    """Return floats of two rows with these bits, again and again."""
    whole = np.asarray(patterns, dtype=f"uint{np.dtype(dtype).itemsize * 8}")
    return np.resize(whole, (2, 3)).view(dtype)


# after a number, because a library may find any one of several NaN
NANS = {
    "float64": of_bits("float64", 0x3FF << 52, 0x7FF8 << 48, 0xFFF8 << 48, 0x7FF8DEAD0000BEEF,
                       0xFFF << 52 | 1),
    "float32": of_bits("float32", 0x3F800000, 0x7FC00000, 0xFFC00000, 0x7FC0BEEF, 0xFF800001),
}  # fmt: skip
ZEROS = {name: np.resize([-0.0, 0.0], (2, 3)).astype(name) for name in FLOATS}
SUBNORMAL = {
    "float64": np.resize([5e-324, -5e-324, 2e-308, -1e-310, 2.0**-1022], (2, 3)),
    "float32": np.resize([1e-45, -1e-45, 1e-38, -1e-40, 2.0**-126], (2, 3)).astype("float32"),
}
HUGE = {
    "float64": np.resize([np.inf, -np.inf, 1.7e308, -1.7e308, 1e300], (2, 3)),
    "float32": np.resize([np.inf, -np.inf, 3.4e38, -3.4e38, 1e30], (2, 3)).astype("float32"),
}


def filled(name, values, **_):
    """Return these floats in place of the ordinary ones; the least and largest integers."""
    if values.dtype.kind == "f":
        found = NUMBERS[name][str(values.dtype)]
        return np.resize(found, values.shape)
    info = np.iinfo(values.dtype) if values.dtype.kind in "iu" else None
    return values if info is None else np.resize([info.min, info.max, 0], values.shape).astype(
        values.dtype
    )  # fmt: skip


NUMBERS = {"NaN with a sign or payload": NANS, "-0": ZEROS, "subnormal numbers": SUBNORMAL,
           "infinite and huge numbers": HUGE}  # fmt: skip


def read_only(values, **_):
    values = values.copy()
    values.flags.writeable = False
    return values


def mixed(values, name, **_):
    """Return every second argument in the smaller dtype."""
    smaller = {"y": "float32", "j": "int8"}
    return values.astype(smaller[name]) if name in smaller else values


def beyond(values, name, **_):
    """Return Python numbers that no dtype has in place of every second argument."""
    return {"y": 10**400, "j": 2**64, "other": 2}.get(name, values)


# each makes a host array, or a Python number, of an ordinary argument
SHAPES = {
    "no axes": lambda values, **_: values.reshape(-1)[:1].reshape(()),
    "no elements": lambda values, **_: values[:0],
    "one row against two": lambda values, name, **_: values[:1] if name in "yj" else values,
    "broadcast, strides of 0": lambda values, **_: np.broadcast_to(values[:1], values.shape),
    "negative strides": lambda values, **_: values[::-1],
    "read-only": read_only,
    "mixed dtypes": mixed,
    "Python numbers beyond the dtype": beyond,
}
KINDS = (*NUMBERS, *SHAPES)


def host_inputs():
    """Return the ordinary arguments of `standard`, as host arrays, by name."""
    ordinary = vars(standard.Inputs(reproducible.namespace("numpy")))
    return {name: np.asarray(array) for name, array in ordinary.items()}


class Inputs:
    """Arguments of one kind, on one namespace; `index` stays what it is."""

    def __init__(self, xp, kind):
        self.hosts = {}
        for name, values in host_inputs().items():
            if name != "index":
                made = SHAPES.get(kind)
                values = made(values, name=name) if made else filled(kind, values)
            self.hosts[name] = values
            array = xp.asarray(values) if isinstance(values, np.ndarray) else values
            setattr(self, name, array)


class Calls:
    """A namespace that notes the bits of what each function returns, or that it is an error."""

    def __init__(self, xp, noted, prefix=""):
        self._xp, self._noted, self._prefix = xp, noted, prefix

    def __getattr__(self, name):
        value = getattr(self._xp, name)
        if name == "linalg":
            return Calls(value, self._noted, "linalg.")
        if not callable(value) or isinstance(value, type) or name in KEPT:
            return value

        def call(*args, **kwargs):
            try:
                result = value(*args, **kwargs)
            except Exception:
                self._noted.append((self._prefix + name, "error"))
                raise
            several = isinstance(result, (tuple, list))
            for one in result if several else [result]:
                if hasattr(one, "raw"):
                    host = np.asarray(one)
                    bits = str(host.dtype), host.shape, host.tobytes()
                    self._noted.append((self._prefix + name, bits))
            return result

        return call


def calls(xp, kind, name):
    """Return what calls of a function noted, and what is wrong with the results by themselves."""
    noted, inputs = [], Inputs(xp, kind)
    before = {key: np.asarray(array).tobytes() for key, array in vars(inputs).items()
              if hasattr(array, "raw")}  # fmt: skip
    try:
        standard.case_of(name)(Calls(xp, noted), inputs)
    except Exception:  # of what the case does itself, such as an operator
        noted.append((name, "error"))
    wrong = []
    for function, bits in noted:
        if isinstance(bits, tuple) and bits[0] in FLOATS:
            host = np.frombuffer(bits[2], dtype=bits[0])
            odd = np.signbit(host) & ((host == 0.0) | np.isnan(host))
            patterns = {one.tobytes() for one in host[np.isnan(host)]}
            if odd.any() or len(patterns) > 1:
                wrong.append(f"{function} of {kind}: a zero or NaN with bits of its own")
    after = {key: np.asarray(getattr(inputs, key)).tobytes() for key in before}
    if after != before:
        wrong.append(f"{name} of {kind} changes its arguments")
    return noted, wrong


def names():
    """Return the names of all functions of the standard that the namespace has."""
    main, algebra, _ = standard.functions()
    return [name for name in (*main, *algebra) if standard.case_of(name)]


def compared(kind, namespaces, functions=None):
    """Return how many calls had results, the functions that refuse the kind, and what is wrong."""
    results, refusing, wrong = 0, [], []
    for name in functions or names():
        first = None
        for library, xp in namespaces.items():
            noted, odd = calls(xp, kind, name)
            wrong += [f"{library}: {text}" for text in odd]
            first = noted if first is None else first
            if noted != first:
                at = next((k for k, pair in enumerate(zip(noted, first, strict=False))
                           if pair[0] != pair[1]), -1)  # fmt: skip
                pair = noted[at : at + 1 or None], first[at : at + 1 or None]
                wrong.append(f"{library}: {name} of {kind} is {pair[0]}, the first {pair[1]}")
        results += sum(isinstance(bits, tuple) for _, bits in first)
        if any(not isinstance(bits, tuple) for _, bits in first):
            refusing.append(name)
    return results, refusing, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--libraries", type=listed, default="numpy,strict,torch,jax")
    parser.add_argument("--without-sorting", action="store_true", help="as the emulated card is")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    namespaces = {name: reproducible.namespace(name) for name in args.libraries}
    functions = [n for n in names() if not (args.without_sorting and n in SORTING.split())]
    print("| kind | results | refused by |\n|---|---:|---|")
    faults = []
    for kind in KINDS:
        results, refusing, wrong = compared(kind, namespaces, functions)
        print(f"| {kind} | {results:,} | {', '.join(refusing)} |", flush=True)
        faults += wrong
    print(*faults, sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
