"""Steps in few launches, held to CuPy's own operations; blocks run in both orders."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xpnn
from tests.helpers import emulated_driver, open_backend, rng
from xpnn import recording
from xpnn._core.tree import leaves, rebuilt
from xpnn.backends import Backend, get_backend
from xpnn.recording.card import CardProgram
from xpnn.testing import assert_same_bits

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e3, -1e3, np.inf, -np.inf, np.nan, 7.25]


@pytest.fixture
def backend():
    return open_backend("cupy")


def namespaced(step):
    """Return the step through the namespace of its arrays."""

    def inner(carry, row, *context):
        if isinstance(row, recording.Recorded):
            xp = row.__array_namespace__()
        else:
            xp = open_backend("cupy").xp
        return step(xp, carry, row, *context)

    return inner


def moved(backend, tree):
    return rebuilt(tree, [backend.asarray(np.array(leaf)) for leaf in leaves(tree)])


def held_to_cupy(step, carry, rows, *context):
    """Run a step in few launches and operation by operation; hold all results to the same bits."""
    backend, driver = open_backend("cupy"), emulated_driver()
    step = namespaced(step)
    with backend.scope():
        rows, context = moved(backend, [rows])[0], moved(backend, list(context))
        expected = Backend.fold(backend, step)(moved(backend, carry), rows, *context)
        for backwards in (0, 1):
            driver.coc_backwards(backwards)
            try:
                fold = backend.fold(step)
                found = fold(moved(backend, carry), rows, *context)
            finally:
                driver.coc_backwards(0)
            assert fold.reason is None
            for one, other in zip(leaves(found), leaves(expected), strict=True):
                assert_same_bits(backend.to_numpy(one), backend.to_numpy(other))
    return fold


def held_functions(functions, arrays, count=2):
    """Hold functions of arrays, as one step's, to CuPy's."""

    def step(xp, carry, row, *context):
        return (carry[0] + 1.0,), tuple(f(xp, *context) for f in functions.values())

    return held_to_cupy(step, (np.zeros(1),), np.zeros((count, 1), np.int64), *arrays)


ELEMENTWISE = {
    "add": lambda xp, a, b, n, m: a + b,
    "subtract": lambda xp, a, b, n, m: 1.5 - a,
    "multiply": lambda xp, a, b, n, m: a * b,
    "divide": lambda xp, a, b, n, m: a / b,
    "a product and a sum": lambda xp, a, b, n, m: a * b + a,
    "a whole number": lambda xp, a, b, n, m: a * 3 + (2 - b),
    "maximum": lambda xp, a, b, n, m: xp.maximum(a, b) + 0.0,  # of two zeros, either
    "minimum": lambda xp, a, b, n, m: xp.minimum(a, b) + 0.0,
    "negative": lambda xp, a, b, n, m: -a,
    "abs": lambda xp, a, b, n, m: xp.abs(a),
    "sqrt": lambda xp, a, b, n, m: xp.sqrt(a),
    "exp": lambda xp, a, b, n, m: xp.exp(a),
    "expm1": lambda xp, a, b, n, m: xp.expm1(a),
    "log": lambda xp, a, b, n, m: xp.log(a),
    "log1p": lambda xp, a, b, n, m: xp.log1p(a),
    "tanh": lambda xp, a, b, n, m: xp.tanh(a),
    "floor": lambda xp, a, b, n, m: xp.floor(a),
    "ceil": lambda xp, a, b, n, m: xp.ceil(a),
    "trunc": lambda xp, a, b, n, m: xp.trunc(a),
    "round": lambda xp, a, b, n, m: xp.round(a),
    "power": lambda xp, a, b, n, m: a**2.0,
    "where": lambda xp, a, b, n, m: xp.where(a > b, a, 0.0),
    "comparisons": lambda xp, a, b, n, m: (a < b) | (a >= 1.0) & (a != b),
    "isfinite": lambda xp, a, b, n, m: xp.isfinite(a) ^ xp.isnan(b),
    "astype": lambda xp, a, b, n, m: xp.astype(a > b, a.dtype) - b,
    "another float": lambda xp, a, b, n, m: xp.astype(xp.astype(a, xp.float32), xp.float64) * 0.1,
    "integers": lambda xp, a, b, n, m: (n * m - 7) & (n >> 1) ^ m,
    "as floats": lambda xp, a, b, n, m: xp.astype(n, xp.float64) / xp.astype(m, a.dtype),
    "equal": lambda xp, a, b, n, m: n == m,
    "searchsorted": lambda xp, a, b, n, m: xp.searchsorted(
        xp.asarray([-1.0, 0.0, 0.5, 2.0], dtype=a.dtype, device=a.device), a, side="right"
    ),
}  # fmt: skip


def test_elementwise_operations(dtype):
    pairs = [values.reshape(-1) for values in np.meshgrid(SPECIAL, SPECIAL)]
    # and numbers whose products and sums are rounded
    a, b = np.hstack([pairs, rng(16).standard_normal((2, 100))]).astype(dtype)
    n = rng(0).integers(-50, 50, a.size)
    m = rng(1).integers(1, 9, a.size)
    held_functions(ELEMENTWISE, (a, b, n, m))


VIEWS = {
    "transposed": lambda xp, x, v, rows: x.T + 1.0,
    "rows": lambda xp, x, v, rows: x[2:5, :] * 2.0,
    "columns": lambda xp, x, v, rows: x[:, 1:3] - x[:, 3:5],
    "backwards": lambda xp, x, v, rows: x[::-1, ::2] + 0.0,
    "one row": lambda xp, x, v, rows: x[3, :] + v,
    "broadcast": lambda xp, x, v, rows: x * v + xp.expand_dims(x[:, 0], axis=1),
    "reshaped": lambda xp, x, v, rows: xp.reshape(x, (5, 7)) + 1.0,
    "a transpose reshaped": lambda xp, x, v, rows: xp.reshape(x.T, (7, 5)) * 3.0,
    "an element": lambda xp, x, v, rows: v * x[1, 2],
    "taken rows": lambda xp, x, v, rows: xp.take(x, rows, axis=0) + v,
    "taken columns": lambda xp, x, v, rows: xp.take(x, rows[:2], axis=1) * 1.0,
    "taken from what is computed": lambda xp, x, v, rows: xp.take(x * x + v, rows, axis=0),
    "taken where rows are computed": lambda xp, x, v, rows: xp.take(v, rows - 2, axis=0),
    "joined": lambda xp, x, v, rows: xp.concat([x * 2.0, x[:2, :], x + v], axis=0),
    "joined columns": lambda xp, x, v, rows: xp.concat([x.T, x.T[:, :1] - 1.0], axis=1) + 0.0,
    "stacked": lambda xp, x, v, rows: xp.stack([x, -x, x * v], axis=-1) + 1.0,
    "broadcast to": lambda xp, x, v, rows: xp.broadcast_to(v, (3, 5)) * 2.0,
}


def test_views_and_gathers(dtype):
    x = rng(2).standard_normal((7, 5)).astype(dtype)
    v = rng(3).standard_normal(5).astype(dtype)
    held_functions(VIEWS, (x, v, np.array([6, 0, 0, 3])))


REDUCTIONS = {
    "sum": lambda xp, x: xp.sum(x),
    "of columns": lambda xp, x: xp.sum(x, axis=0),
    "of rows": lambda xp, x: xp.sum(x, axis=1, keepdims=True),
    "of a transpose": lambda xp, x: xp.sum(x.T, axis=0),
    "of what is computed": lambda xp, x: xp.sum(x * 2.0 + x.T[:1, :].T, axis=1),
    "of truths": lambda xp, x: xp.sum(x > 0, axis=1),
    "of two axes": lambda xp, x: xp.sum(xp.reshape(x, (3, 2, -1)), axis=(0, 2)),
    "mean": lambda xp, x: xp.mean(x, axis=1),
    "max": lambda xp, x: xp.max(x, axis=0),
    "min": lambda xp, x: xp.min(x, axis=1, keepdims=True),
    "all": lambda xp, x: xp.all(x > -5, axis=1),
    "any": lambda xp, x: xp.any(x == 5),
    "argmax": lambda xp, x: xp.argmax(x, axis=1),
    "argmin": lambda xp, x: xp.argmin(x, axis=0),
    "a sum of sums": lambda xp, x: xp.sum(xp.sum(x, axis=1) * 2.0),
    "beside its terms": lambda xp, x: x - xp.max(x, axis=1, keepdims=True),
}


@pytest.mark.parametrize("shape", [(6, 4), (600, 4), (6, 1600)])
def test_reductions(shape, dtype):
    """Of small whole numbers, whose sums are exact in any order."""
    x = rng(4).integers(-8, 9, shape).astype(dtype)
    held_functions(REDUCTIONS, (x,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_reductions_of_what_is_not_finite(value):
    x = rng(5).integers(-8, 9, (6, 40)).astype(np.float64)
    x[1, 7] = x[4, 3] = x[4, 30] = value
    names = ["sum", "of columns", "max", "min"]
    # CuPy's argmax returns some NaN, these NumPy's first one
    names += [] if np.isnan(value) else ["argmax", "argmin"]
    held_functions({name: REDUCTIONS[name] for name in names}, (x,))


@pytest.mark.parametrize("sizes", [(6, 5, 4), (1, 5, 4), (6, 1, 4), (6, 5, 1)])
def test_products_of_all_layouts(sizes, dtype):
    rows, inner, columns = sizes
    a = rng(6).integers(-4, 5, (rows, inner)).astype(dtype)
    b = rng(7).integers(-4, 5, (inner, columns)).astype(dtype)
    big = rng(8).integers(-4, 5, (2 * rows, 2 * inner)).astype(dtype)
    products = {
        "as they are": lambda xp, a, b, big: a @ b,
        "transposed": lambda xp, a, b, big: b.T @ a.T,
        "a part": lambda xp, a, b, big: big[rows:, inner:] @ b,
        "a part transposed": lambda xp, a, b, big: b.T @ big[:rows, :inner].T,
        "every other": lambda xp, a, b, big: big[::2, ::2] @ b,
        "broadcast": lambda xp, a, b, big: xp.broadcast_to(a[:1, :], (3, inner)) @ b,
        "computed": lambda xp, a, b, big: (a + 1.0) @ (2.0 * b) + 1.0,
        "of a product": lambda xp, a, b, big: (a @ b) @ (b.T @ a.T),
        "two parts": lambda xp, a, b, big: big[:, :inner] @ b + big[:, inner:] @ b,
    }
    fold = held_functions(products, (a, b, big))
    assert fold.programs[0].launches < 20


def test_parts_of_a_product_are_one():
    def step(xp, carry, row, a, b):
        total = a[:, :3] @ b[:3, :]
        total += a[:, 3:4] @ b[3:4, :]
        total += a[:, 4:] @ b[4:, :]
        other = a[:, :3] @ b[:3, :] + a[:, 4:] @ b[4:, :]  # one is left out
        return (total, other), ()

    a = rng(9).integers(-4, 5, (6, 9)).astype(np.float64)
    b = rng(10).integers(-4, 5, (9, 5)).astype(np.float64)
    fold = held_to_cupy(step, (np.zeros((6, 5)), np.zeros((6, 5))), np.zeros((2, 1), int), a, b)
    assert fold.programs[0].launches == 3 + 1


ROWS = rng(11).integers(0, 20, (5, 4))
X = rng(12).integers(-4, 5, (20, 3)).astype(np.float64)


def changed(xp, carry, row, x):
    """Change arrays in place in many ways, and use what they were before and after."""
    a, b, n = carry
    batch = xp.take(x, row, axis=0)
    before = xp.sum(a, axis=0)
    a += batch
    middle = a * 1.0
    flat = xp.reshape(a, (-1,))
    flat *= 2.0
    fresh = batch * 0.5
    turned = fresh.T
    turned += 1.0
    b = b + before + xp.sum(fresh, axis=0) + middle[0, :]
    n = n + 1
    return (a, b, n), (xp.sum(a), xp.max(middle, axis=0), n * 2)


def test_arrays_that_are_changed_in_place():
    held_to_cupy(changed, (np.ones((4, 3)), np.zeros(3), np.zeros((), int)), ROWS, X)


def test_arrays_that_others_read_while_they_are_overwritten():
    """Each needs the other ones as they were before the step, also in another order and as sums."""

    def step(xp, carry, row, x):
        a, b, c, d = carry
        new = b[::-1, :] + d, a[:, ::-1] * 2.0 + c, a[0, 0] + c + xp.sum(b), a[1, 1] - d
        return new, (c * 1.0, d + 1.0, xp.max(a))

    carry = np.arange(9.0).reshape(3, 3), np.ones((3, 3)), np.array(2.0), np.array(5.0)
    held_to_cupy(step, carry, ROWS, X)


def test_a_scalar_that_every_element_reads_and_the_step_changes():
    def step(xp, carry, row, x):
        w, count = carry
        count = 0.5 * count + 0.25
        w -= xp.take(x, row, axis=0) / count
        return (w, count), ()

    held_to_cupy(step, (np.ones((4, 3)), np.array(1.0)), ROWS, X)


def test_steps_go_on_from_each_other_in_any_number(backend):
    """Programs are kept for the form of what they are given, and take any arrays of it."""
    step = namespaced(changed)
    fold = backend.fold(step)
    with backend.scope():
        carries = [moved(backend, (np.ones((4, 3)), np.zeros(3), np.zeros((), int))) for _ in "ab"]
        whole, _ = backend.fold(step)(carries[0], *moved(backend, [ROWS, X]))
        carry = carries[1]
        for rows in (ROWS[:1], ROWS[1:4], ROWS[4:]):
            carry, _ = fold(carry, *moved(backend, [rows, X.copy()]))
    assert len(fold.programs) == 1
    for one, other in zip(whole, carry, strict=True):
        assert_same_bits(backend.to_numpy(one), backend.to_numpy(other))


def counting(xp, carry, row, x, calls=[0]):  # noqa: B006
    calls[0] += 1
    return (carry[0] + calls[0],), ()


REFUSED = {
    "the value of an array": lambda xp, c, row, x: ((c[0] + float(x[0, 0]),), ()),
    "the truth of an array": lambda xp, c, row, x: ((c[0] + 1 if xp.any(x > 0) else c[0],), ()),
    "recordings of the step differ": counting,
    "has no kernel": lambda xp, c, row, x: ((c[0] + xp.sum(xp.flip(xp.tril(x))),), ()),
    "no attribute": lambda xp, c, row, x: ((c[0] + x.shape[0] + 0 * x.sum(),), ()),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_step_without_a_kernel_is_carried_out_and_says_why(why, backend, caplog):
    step = namespaced(REFUSED[why])
    fold = backend.fold(step)
    with backend.scope():
        expected, _ = Backend.fold(backend, step)(
            moved(backend, (np.ones(3),)), *moved(backend, [ROWS, X])
        )
        found, _ = fold(moved(backend, (np.ones(3),)), *moved(backend, [ROWS, X]))
    assert why in fold.reason
    assert "test_steps.py" in fold.reason or "differ" in why
    assert [record.message for record in caplog.records if fold.reason in record.message]
    if "differ" not in why:
        assert_same_bits(backend.to_numpy(found[0]), backend.to_numpy(expected[0]))


def trained(backend, *, epochs=1, rows=400, optimizer=None, loss=None, activation="tanhexp"):
    x = rng(13).random((rows, 20), np.float32)
    model = xpnn.Sequential(xpnn.Dense(10), xpnn.Activation(activation), xpnn.Dense(4))
    history = xpnn.fit(
        model, (x, rng(14).integers(0, 4, rows)), epochs=epochs, batch_size=20, seed=1,
        backend=backend, optimizer=optimizer, loss=loss,
    )  # fmt: skip
    assert "not_recorded" not in history.settings
    return model, history


@pytest.mark.parametrize("size", [999, 1000])
def test_a_small_evaluation_is_not_compiled(size, backend):
    """Its carry is as it was; data sets have many sizes, and a compilation takes a second."""

    def evaluation(xp, carry, row, x):
        return carry, (xp.sum(carry[0] * xp.take(x, row, axis=0)),)

    step = namespaced(evaluation)
    fold = backend.fold(step)
    rows = rng(15).integers(0, 20, (3, size))
    with backend.scope():
        launches = emulated_driver().coc_launches
        carry, given = moved(backend, (np.ones(3),)), moved(backend, [rows, X])
        expected = Backend.fold(backend, step)(carry, *given)
        before = launches()
        found = fold(carry, *given)
        assert (launches() - before == 2 * 3) == (size == 1000)
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        assert_same_bits(backend.to_numpy(one), backend.to_numpy(other))


def test_equal_runs_share_their_programs(backend, monkeypatch):
    """In a thread; another one has its own, because a program has memory of its own."""
    made, build = [], CardProgram.__init__

    def counted(self, *args):
        made.append(self)
        build(self, *args)

    monkeypatch.setattr(CardProgram, "__init__", counted)
    counts, shas = [], set()
    for run in (trained, trained, ThreadPoolExecutor(1).submit):
        if run is trained:
            model, _ = run(backend, activation="mish")
        else:
            model, _ = run(trained, backend, activation="mish").result()
        shas.add(model.sha256())
        counts.append(len(made))
    assert counts == [2, 2, 4]
    assert len(shas) == 1


def test_steps_allocate_nothing(backend):
    """A sweep of 40 steps asks the memory pool as often as one of 20."""
    import cupy

    class Requests(cupy.cuda.MemoryHook):
        name, count = "requests", 0

        def malloc_preprocess(self, **kwargs):
            self.count += 1

    counts = []
    for rows in (400, 800, 400, 800):  # the first two are compiled
        with Requests() as requests:
            trained(backend, rows=rows)
        counts.append(requests.count)
    assert counts[3] <= counts[2]


@pytest.mark.parametrize("reproducible", [False, True])
def test_blocks_run_in_any_order(reproducible, backend):
    driver = emulated_driver()
    own = get_backend(**{**backend.options(), "reproducible": reproducible})
    shas = []
    for backwards in (0, 1):
        driver.coc_backwards(backwards)
        try:
            shas.append(trained(own, optimizer=xpnn.Adam())[0].sha256())
        finally:
            driver.coc_backwards(0)
    assert shas[0] == shas[1]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="CUDA's own compiler isn't here")
@pytest.mark.parametrize("reproducible", [False, True])
def test_cudas_own_compiler_takes_the_kernels(reproducible, backend, monkeypatch, tmp_path):
    texts = []
    own = get_backend(**{**backend.options(), "reproducible": reproducible})
    play = CardProgram.play

    def noted(self, *args):
        texts.append(self.text)
        return play(self, *args)

    monkeypatch.setattr(CardProgram, "play", noted)
    trained(own, optimizer=xpnn.Adam(), loss=xpnn.Focal())
    for i, text in enumerate(dict.fromkeys(texts)):
        path = tmp_path / f"{i}.cu"
        path.write_text(text)
        options = ["-arch=sm_90", "-fmad=false", "-Werror=all-warnings", "-diag-suppress=177"]
        made = tmp_path / f"{i}.ptx"
        subprocess.run(["nvcc", "-ptx", *options, "-o", made, path], check=True)
        written = made.read_text()
        assert ".entry step0" in written
        if reproducible:  # which calls none of CUDA's functions, whose own products are joined
            assert "fma.rn.f64" not in written.replace("div.rn.f64", "")
