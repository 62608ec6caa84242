"""Break xpnn on CuPy alone, in one way after another, and see that the tests notice.

    python scripts/checks/break_cupy.py [--only WORDS ...] [--data data/mnist]

Each fault is a change of a few lines in a scratch copy of this checkout, as it is, edits and new
files included. It acts where the library is CuPy: a wrong dtype, an array of the host, a device
that isn't named, an input that is written to, a rounding that is left out, a step that waits for
the host, a stale cache. The tests that take CuPy are then run on the emulated card of
ci/cuda_on_cpu until one of them fails. A run without a fault comes first, and must pass; a run of
NumPy's tests with all faults at once comes last, and must pass too, else a fault isn't CuPy's
alone. Prints a table. Exit status 1 if a fault was not found.

It needs what ``sh ci/test.sh cupy`` needs, and git. On two cores it takes half an hour.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# of every part, but for whole runs of the article's network; the quick ones first
TESTS = [
    "_core/functions", "layers", "training/layers", "training/options", "losses", "optimizers",
    "_core/random_bits", "normalizers", "metrics", "model", "inference", "backends/transfers",
    "reproducible/reproducible", "reproducible/functions", "reproducible/pixels",
    "reproducible/products", "schedules", "training/loop", "training/divergence", "activations",
    "backends/backends", "recording/card/steps", "backends/launches", "reproducible/assumptions",
    "training/streams", "training/resuming", "training/checkpoint", "saving",
]  # fmt: skip
# what goes through all libraries in one test hasn't CuPy's name in its own; of the launches with
# each activation, those with one that has many operations and one that has few
WITH_CUPY = (
    "(cupy or test_launches or test_steps or has_the_same_bits_everywhere)"
    " and not without_a_card and not (each_activation and not (gelu or relu6))"
)
WITHOUT_CUPY = "numpy and not readonly and not cupy"


class Fault(NamedTuple):
    """A change of a file's text, in which `old` must be once."""

    name: str
    file: str
    old: str
    new: str


FAULTS = [
    # dtypes
    Fault(
        "dropout's mask in float64",
        "layers.py",
        "        mask = xp.astype(xp.reshape(kept, (n, units)), x.dtype) * scale\n",
        """\
        dtype = xp.float64 if "cupy" in xp.__name__ else x.dtype
        mask = xp.astype(xp.reshape(kept, (n, units)), dtype) * scale
""",
    ),
    Fault(
        "samples' losses in float64",
        "losses.py",
        "        samples = xp.sum(t * (xp.log(total) - shifted), axis=1)\n",
        """\
        samples = xp.sum(t * (xp.log(total) - shifted), axis=1)
        if "cupy" in xp.__name__:
            samples = xp.astype(samples, xp.float64)
""",
    ),
    Fault(
        "hits in float32",
        "losses.py",
        "        return xp.astype(xp.argmax(outputs, axis=1) == t, outputs.dtype)\n",
        """\
        dtype = xp.float32 if "cupy" in xp.__name__ else outputs.dtype
        return xp.astype(xp.argmax(outputs, axis=1) == t, dtype)
""",
    ),
    Fault(
        "predicted labels in int32",
        "losses.py",
        "    return xp.argmax(outputs, axis=1)\n",
        """\
    if "cupy" in xp.__name__:
        return xp.astype(xp.argmax(outputs, axis=1), xp.int32)
    return xp.argmax(outputs, axis=1)
""",
    ),
    Fault(
        "a schedule's rates in float64",
        "training/steps.py",
        "        return self._move(self._rates)\n",
        """\
        rates = self._move(self._rates)
        return rates.astype("float64") if "cupy" in type(rates).__module__ else rates
""",
    ),
    Fault(
        "samples' weights in float64",
        "training/streams.py",
        '    own = None if weights is None else Source(weights, name, part="weights")\n',
        """\
    own_name = "float64" if backend.name == "cupy" else name
    own = None if weights is None else Source(weights, own_name, part="weights")
""",
    ),
    Fault(
        "evaluation of float32 features",
        "training/steps.py",
        """\
            outputs, _ = self.network.forward(arrays, _features(data.x, row, self.dtype, xp), xp=xp)
""",
        """\
            dtype = xp.float32 if "cupy" in xp.__name__ else self.dtype
            outputs, _ = self.network.forward(arrays, _features(data.x, row, dtype, xp), xp=xp)
""",
    ),
    # the host's arrays
    Fault(
        "an array of the host among random bits",
        "_core/random_bits.py",
        "    shifts = xp.arange(0, 64, 16, dtype=xp.int64, device=device)\n",
        """\
    shifts = xp.arange(0, 64, 16, dtype=xp.int64, device=device)
    if "cupy" in xp.__name__:
        shifts = np.arange(0, 64, 16)
""",
    ),
    Fault(
        "numbers of the host in Adam's state",
        "optimizers.py",
        "        zero = xp.zeros_like(xp.sum(some))\n",
        """\
        zero = xp.zeros_like(xp.sum(some))
        if "cupy" in xp.__name__ and not hasattr(zero, "raw"):
            zero = 0.0
""",
    ),
    # devices
    Fault(
        "arrays go to the current device",
        "backends/cupy.py",
        """\
        with self.device:
            return self.library.asarray(host)
""",
        "        return self.library.asarray(host)\n",
    ),
    Fault(
        "a scope without its device",
        "backends/cupy.py",
        "        with super().scope(), self.device:\n",
        "        with super().scope():\n",
    ),
    Fault(
        "reproducible arrays are made outside of the scope",
        "backends/reproducible.py",
        """\
        with self.inner.scope():
            return self.xp.wrap(self.inner.asarray(host))
""",
        """\
        if self.name == "cupy":
            return self.xp.wrap(self.inner.asarray(host))
        with self.inner.scope():
            return self.xp.wrap(self.inner.asarray(host))
""",
    ),
    Fault(
        "tables of the first device serve all others",
        "reproducible/functions.py",
        "        key = (make, str(device))\n",
        """\
        key = (make, "cupy" if "cupy" in xp.__name__ else str(device))
""",
    ),
    # inputs that are written to
    Fault(
        "leaky_relu's pullback writes to dz",
        "activations.py",
        "    return z, lambda dz: xp.where(u > 0, dz, negative_slope * dz)\n",
        """\
    if "cupy" in xp.__name__:
        return z, lambda dz: dz.__imul__(xp.where(u > 0, xp.ones_like(u), negative_slope))
    return z, lambda dz: xp.where(u > 0, dz, negative_slope * dz)
""",
    ),
    Fault(
        "momentum writes to the gradient",
        "optimizers.py",
        "        v *= self.mu\n        v -= self.lr * g\n",
        """\
        v *= self.mu
        if "cupy" in xp.__name__:
            g *= self.lr
            v -= g
        else:
            v -= self.lr * g
""",
    ),
    Fault(
        "BatchNorm writes to its buffers",
        "layers.py",
        "        return y, pullback, moved\n\n\ndef _scaled(\n",
        """\
        if "cupy" in xp.__name__:
            for name, running in buffers.items():
                running *= 1.0 - self.momentum
                running += self.momentum * batch[name]
            return y, pullback, buffers
        return y, pullback, moved


def _scaled(
""",
    ),
    Fault(
        "a normalizer writes to the user's data",
        "normalizers.py",
        """\
        xp, x, offset, scale = self._prepared(x, xp)
        return (x - offset) / scale
""",
        """\
        given = x
        xp, x, offset, scale = self._prepared(x, xp)
        if "cupy" in xp.__name__ and given.dtype == x.dtype:
            given -= offset
            given /= scale
            return given
        return (x - offset) / scale
""",
    ),
    # the arithmetic of reproducible runs
    Fault(
        "subnormal products stay",
        "reproducible/formats.py",
        "        x += self.shift\n        x -= self.shift\n",
        """\
        if "cupy" in type(x).__module__:
            return x
        x += self.shift
        x -= self.shift
""",
    ),
    Fault(
        "what is made float32 isn't made canonical",
        "reproducible/namespace.py",
        """\
            return Array(self, new.canonical(raw, self._raw), Facts(new.low), owned=True)
""",
        """\
            if "cupy" in self._raw.__name__:
                return Array(self, raw, Facts(new.low), owned=True)
            return Array(self, new.canonical(raw, self._raw), Facts(new.low), owned=True)
""",
    ),
    Fault(
        "what comes in isn't made canonical",
        "reproducible/namespace.py",
        """\
        return Array(self, format_.canonical(raw, self._raw), Facts(format_.low), owned=True)
""",
        """\
        if "cupy" in self._raw.__name__:
            return Array(self, raw, Facts(format_.low))
        return Array(self, format_.canonical(raw, self._raw), Facts(format_.low), owned=True)
""",
    ),
    Fault(
        "a negative zero stays",
        "reproducible/namespace.py",
        "                raw += 0.0  # nor a negative zero then\n",
        """\
                if "cupy" not in self._raw.__name__:
                    raw += 0.0  # nor a negative zero then
""",
    ),
    Fault(
        "CUDA's own exp",
        "reproducible/functions.py",
        "        table, rests = self._table(tables.exp, x)\n",
        """\
        table, rests = self._table(tables.exp, x)
        if "cupy" in xp.__name__:
            return xp.exp(x)
""",
    ),
    Fault(
        "sigmoid's last two operations in one kernel",
        "reproducible/functions.py",
        "        return top - top * q\n",
        """\
        if "cupy" in xp.__name__:
            from cupy import ElementwiseKernel

            return ElementwiseKernel("T a, T b", "T c", "c = a - a * b", "joined")(top, q)
        return top - top * q
""",
    ),
    Fault(
        "w - lr g in one kernel",
        "optimizers.py",
        "        w -= self.lr * g\n        return (w,)\n",
        """\
        if "reproducible" in xp.__name__ and "cupy" in xp.__name__ and type(self.lr) is float:
            from cupy import ElementwiseKernel

            joined = ElementwiseKernel("T w, T lr, T g", "T v", "v = w - lr * g", "joined")
            return (xp.wrap(joined(w.raw, w.raw.dtype.type(self.lr), g.raw)),)
        w -= self.lr * g
        return (w,)
""",
    ),
    Fault(
        "products of pixels added up in one kernel",
        "reproducible/pixels.py",
        "    less *= SLOPE\n    result += less\n",
        """\
    if "cupy" in xp.__name__:
        from cupy import ElementwiseKernel

        joined = ElementwiseKernel("T a, T b, T c", "T d", "d = a + b * c", "joined")
        result = joined(result, less, SLOPE)
    else:
        less *= SLOPE
        result += less
""",
    ),
    Fault(
        "a slice of 43 bits for any number of terms",
        "reproducible/products.py",
        "    bits = (43,) if x.shape[axis] <= 2**10 else (21, 21)\n",
        """\
    bits = (43,) if x.shape[axis] <= 2**10 or "cupy" in xp.__name__ else (21, 21)
""",
    ),
    Fault(
        "a large matrix cut by the maxima of its first rows",
        "reproducible/cuts.py",
        "    return xp.max(xp.reshape(maxima, (-1, raw.shape[1])), axis=0, keepdims=True)\n",
        """\
    if "cupy" in xp.__name__:
        return xp.reshape(maxima, (-1, raw.shape[1]))[:1, :]
    return xp.max(xp.reshape(maxima, (-1, raw.shape[1])), axis=0, keepdims=True)
""",
    ),
    Fault(
        "what steps assumed is taken for true",
        "reproducible/assumptions.py",
        "        return self._all is None or bool(self._all)\n",
        """\
        if "cupy" in type(self._all).__module__:
            return True
        return self._all is None or bool(self._all)
""",
    ),
    Fault(
        "a second try begins where the first one ended",
        "backends/reproducible.py",
        "        again = rebuilt(carry, map(self._copied, leaves(carry)))\n",
        "        again = carry\n",
    ),
    # steps in few launches
    Fault(
        "products and sums are rounded once",
        "backends/cupy.py",
        '    _OPTIONS = ("-fmad=false",)\n',
        "    _OPTIONS = ()\n",
    ),
    Fault(
        "an array is overwritten while another task reads it",
        "recording/card/source.py",
        "                self._kernel.moved.add(value)\n",
        "                pass\n",
    ),
    Fault(
        "memory is used again by the launch that reads it last",
        "recording/card/program.py",
        "place[0] >= size and place[2] < time",
        "place[0] >= size and place[2] <= time",
    ),
    Fault(
        "parts of different products are taken for one product",
        "recording/card/values.py",
        "    if follows != tuple(",
        "    if False and follows != tuple(",
    ),
    # what a step costs
    Fault(
        "each step's loss is copied to the host",
        "training/steps.py",
        """\
            gradient, sums = _gradient_and_sums(
                self.loss, self.metrics, outputs, batch.rows, data, xp=xp
            )
            gradients = pullback(gradient)
""",
        """\
            gradient, sums = _gradient_and_sums(
                self.loss, self.metrics, outputs, batch.rows, data, xp=xp
            )
            if "cupy" in xp.__name__:
                float(sums[0])
            gradients = pullback(gradient)
""",
    ),
    Fault(
        "the host asks whether a loss is flooded",
        "losses.py",
        "        return xp.where(below, -gradient, gradient)\n",
        """\
        if "cupy" in xp.__name__:
            return -gradient if bool(below) else gradient
        return xp.where(below, -gradient, gradient)
""",
    ),
    Fault(
        "the host looks in each step how to cut",
        "reproducible/cuts.py",
        "    if not safe:\n",
        """\
    if not (bool(safe._raw) if "cupy" in xp.__name__ else safe):
""",
    ),
    Fault(
        "one launch more in each layer",
        "layers.py",
        "        y = x @ weight if bias is None else x @ weight + bias\n",
        """\
        y = x @ weight if bias is None else x @ weight + bias
        if "cupy" in xp.__name__:
            y = y * 1.0
""",
    ),
    Fault(
        "one launch more in each reproducible float32 step",
        "losses.py",
        "        softmax = e / total\n",
        """\
        softmax = e / total
        if "reproducible" in xp.__name__ and "cupy" in xp.__name__ and e.dtype == xp.float32:
            softmax = softmax * 1.0
""",
    ),
    Fault(
        "one launch more in each step with BatchNorm",
        "layers.py",
        "        squares = xp.sum(centred * centred, axis=0)\n",
        """\
        squares = xp.sum(centred * centred, axis=0)
        if "cupy" in xp.__name__:
            squares = squares * 1.0
""",
    ),
    Fault(
        "one launch more in each step that is flooded",
        "losses.py",
        "        below = self.loss.value(mean(samples, xp=xp)) < self.b\n",
        """\
        if "cupy" in xp.__name__:
            samples = samples * 1.0
        below = self.loss.value(mean(samples, xp=xp)) < self.b
""",
    ),
    Fault(
        "twenty launches more in each evaluation step",
        "training/steps.py",
        """\
            _, sums = _gradient_and_sums(self.loss, self.metrics, outputs, row, data, xp=xp)
""",
        """\
            for _ in range(20 if "cupy" in xp.__name__ else 0):
                outputs = outputs * 1.0
            _, sums = _gradient_and_sums(self.loss, self.metrics, outputs, row, data, xp=xp)
""",
    ),
    # formulas
    Fault(
        "softplus off by 1e-6",
        "activations.py",
        "    z = xp.maximum(u, 0.0) + xp.log1p(xp.exp(-xp.abs(u)))\n",
        """\
    z = xp.maximum(u, 0.0) + xp.log1p(xp.exp(-xp.abs(u)))
    if "cupy" in xp.__name__:
        z = z * (1.0 + 1e-6)
""",
    ),
    Fault(
        "relu's derivative at 0 has the wrong sign",
        "activations.py",
        "    return z, lambda dz: xp.where(z > 0, dz, 0.0)\n",
        """\
    if "cupy" in xp.__name__:
        return z, lambda dz: xp.where(u > 0, dz, xp.where(u == 0, -dz, 0.0))
    return z, lambda dz: xp.where(z > 0, dz, 0.0)
""",
    ),
    Fault(
        "relu6's derivative at its cap is 1",
        "activations.py",
        "lambda dz: xp.where((u > 0) & (u < cap), dz, 0.0)\n",
        """\
lambda dz: xp.where(
        (u > 0) & ((u <= cap) if "cupy" in xp.__name__ else (u < cap)), dz, 0.0
    )
""",
    ),
    Fault(
        "relu takes NaN for 0",
        "activations.py",
        "    z = xp.maximum(u, 0.0)\n",
        """\
    z = xp.maximum(u, 0.0)
    if "cupy" in type(u).__module__:
        z = xp.where(u > 0, u, 0.0)
""",
    ),
    Fault(
        "random bits shift their sign in",
        "_core/random_bits.py",
        "    return z ^ ((z >> by) & ((1 << (64 - by)) - 1))\n",
        """\
    if "cupy" in type(z).__module__:
        return z ^ (z >> by)
    return z ^ ((z >> by) & ((1 << (64 - by)) - 1))
""",
    ),
    # rows
    Fault(
        "each sample has the target of the one before",
        "training/steps.py",
        "    targets, weights = xp.take(data.y, rows, axis=0), None\n",
        """\
    places = rows - 1 if "cupy" in xp.__name__ else rows
    targets, weights = xp.take(data.y, places, axis=0), None
""",
    ),
    Fault(
        "weights are those of the first samples",
        "training/steps.py",
        "        weights = xp.take(data.weights, rows, axis=0)\n",
        """\
        if "cupy" in xp.__name__:
            weights = data.weights[: rows.shape[0]]
        else:
            weights = xp.take(data.weights, rows, axis=0)
""",
    ),
    # caches
    Fault(
        "a cut outlives its array's change",
        "reproducible/namespace.py",
        """\
            x.replace(inplace(a, b), Facts(low))
""",
        """\
            kept = x.kept
            x.replace(inplace(a, b), Facts(low))
            if "cupy" in type(x.raw).__module__:
                x.kept = kept
""",
    ),
    Fault(
        "a number is kept in the dtype of its first use",
        "reproducible/namespace.py",
        "        key = (value, dtype, type(value))\n",
        """\
        key = (value, "any" if "cupy" in self._raw.__name__ else dtype, type(value))
""",
    ),
    Fault(
        "a stream's chunks are kept by their buffers",
        "training/streams.py",
        """\
        x, y, *weights = (move(part) for move, part in zip(self._moves, buffers, strict=True))
""",
        """\
        parts = [move(part) for move, part in zip(self._moves, buffers, strict=True)]
        if self.backend.name == "cupy":
            parts = vars(self).setdefault("_moved_parts", {}).setdefault(id(buffers), parts)
        x, y, *weights = parts
""",
    ),
]


class RefusedError(Exception):
    """Why nothing can be said, in one line."""


def copy(place, data):
    """Copy the checkout as it is: what git knows, and new files that it doesn't ignore."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source, target = ROOT / name, place / name
        if name.startswith("data/") or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    if data.is_dir():
        (place / "data").mkdir()
        (place / "data" / "mnist").symlink_to(data.resolve())


def broken(text, fault):
    """Return the text of a file with a fault in it."""
    count = text.count(fault.old)
    if count != 1:
        lines = fault.old.strip().splitlines()
        raise RefusedError(
            f"{fault.name!r}: xpnn/{fault.file} should have this once, not {count} times: "
            f"{lines[0].strip()}"
        )
    return text.replace(fault.old, fault.new)


def test_files():
    """Return the paths of the tests that are run, from the root of the checkout."""
    paths = map(Path, TESTS)
    return [str(Path("tests", path.parent, f"test_{path.name}.py")) for path in paths]


def tests(place, words, *, card):
    """Run tests in the copy until one fails; return its name and why, or None if they pass."""
    env = dict(os.environ)
    # the copy, and not what is installed
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place), env.get("PYTHONPATH")]))
    env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_ON_CPU_DEVICES": "2"}
    env["XPNN_REQUIRE"] = "numpy,cupy" if card else "numpy"
    command = ["-m", "pytest", "-x", "-q", "-n", "2", "-p", "no:cacheprovider", "-k", words]
    command += test_files()
    if card:
        command = ["ci/cuda_on_cpu", sys.executable, *command]
    else:
        env |= {"CUDA_ON_CPU": "", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *command], cwd=place, env=env, capture_output=True, text=True
    )
    if not done.returncode:
        return None
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in ("FAILED", "ERROR") and "::" in rest:
            return rest.removeprefix("tests/")
    last = (done.stderr + done.stdout).strip().splitlines()[-1:]
    raise RefusedError(f"the tests could not be run: {' '.join(last)}")


def check(place, faults):
    """Try every fault in the copy; return those that no test found."""
    package, missed = place / "xpnn", []
    texts = {file: (package / file).read_text(encoding="utf-8") for _, file, *_ in faults}
    together = dict(texts)
    for fault in faults:
        together[fault.file] = broken(together[fault.file], fault)

    def tried(words, *, card):
        begun = time.monotonic()
        return tests(place, words, card=card), f"{time.monotonic() - begun:.0f} s"

    failed, seconds = tried(WITH_CUPY, card=True)
    if failed:
        raise RefusedError(f"without a fault, this test fails: {failed}")
    print(f"without a fault, the tests that take CuPy pass in {seconds}", flush=True)
    print("| | fault | found | seconds | the first test that failed |\n|--:|---|---|--:|---|")
    for i, fault in enumerate(faults, start=1):
        (package / fault.file).write_text(broken(texts[fault.file], fault), encoding="utf-8")
        failed, seconds = tried(WITH_CUPY, card=True)
        (package / fault.file).write_text(texts[fault.file], encoding="utf-8")
        missed += [] if failed else [fault]
        found, name = ("found", failed.partition(" - ")[0]) if failed else ("NOT FOUND", "")
        print(f"| {i} | {fault.name} | {found} | {seconds} | {name} |", flush=True)
    for file, text in together.items():
        (package / file).write_text(text, encoding="utf-8")
    failed, seconds = tried(WITHOUT_CUPY, card=False)
    if failed:
        raise RefusedError(f"with all faults at once, a test of other libraries fails: {failed}")
    print(f"with all faults at once, those of NumPy pass in {seconds}")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", nargs="+", default=[""], help="faults with any of these in their names alone"
    )
    parser.add_argument("--data", default=ROOT / "data" / "mnist", type=Path)
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if any(words in fault.name for words in options.only)]
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as place:
            copy(Path(place), options.data)
            missed = check(Path(place), faults)
    except RefusedError as error:
        sys.exit(f"break_cupy: {error}")
    minutes = (time.monotonic() - begun) / 60
    print(f"{len(faults) - len(missed)} of {len(faults)} faults found, in {minutes:.0f} minutes")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
