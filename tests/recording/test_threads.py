"""Programs that several threads play: the bits are those of one thread."""

import contextlib
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import xpnn
from tests.helpers import held_to_eager, rng, rows_of
from xpnn._core import cores as cores_module
from xpnn.activations import ACTIVATIONS
from xpnn.recording import pace, threads

NO_OPENBLAS = not threads.blas.batches


@pytest.fixture
def three(monkeypatch):
    """Three threads, all of whose operations are shared, however small, in every step."""
    monkeypatch.setattr(threads.blas, "on_one_thread", contextlib.nullcontext)
    monkeypatch.setattr(threads.blas, "several", lambda: 3)
    monkeypatch.setattr(threads.blas, "lent", lambda: contextlib.nullcontext(True))
    monkeypatch.setattr(threads, "_LEAST_BYTES", 1)
    monkeypatch.setattr(pace.Pace, "turns", lambda self, count: iter([(True, count)]))
    # what is compared, an eager step, has one too
    with threadpool_limits(1, user_api="blas"):
        yield


def shared_by(fold):
    """Return the names of the functions that share the operations of a fold's programs."""
    return [
        f.__name__ for p in fold.programs for f, _ in p._shared if f.__module__ == threads.__name__
    ]


@pytest.mark.skipif(NO_OPENBLAS, reason="NumPy's BLAS has no gemm_batch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [144, 203, 1000])
def test_products_of_blocks_of_rows(three, dtype, rows):
    """Of random numbers, of either order of the axes, transposed or not."""
    x = rng(0).standard_normal((rows, 300)).astype(dtype)
    w = rng(1).standard_normal((300, 120)).astype(dtype)

    def step(carry, row, x):
        (w,) = carry
        y = x @ w
        d = y @ w.T - x
        return (w - 1e-4 * (d.T @ y),), (y[0, 0],)

    fold = held_to_eager(step, (w,), [(rows_of(5), x)])
    shared = shared_by(fold)
    assert 2 <= shared.count("_on_threads") <= 3


@pytest.mark.skipif(NO_OPENBLAS, reason="NumPy's BLAS has no gemm_batch")
@pytest.mark.parametrize("error", [0.0, 1e-15])
def test_a_product_whose_blocks_have_other_bits_is_not_shared(error, monkeypatch):
    def batch(blocks, b):
        def multiply():
            for a, out in blocks:
                np.matmul(a, b, out)
            out[-1, -1] *= 1 + error

        return multiply, ()

    monkeypatch.setattr(threads, "_batch", batch)
    threads._are_equal.cache_clear()
    a, b = rng(0).standard_normal((200, 300)), rng(1).standard_normal((300, 100))
    shared = threads._shared_product(a, b, np.empty((200, 100)), 2)
    threads._are_equal.cache_clear()
    assert (shared is None) == (error > 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_elementwise_operations(three, dtype):
    """Broadcast, in place, of numbers and of all special values; what overlaps isn't cut."""
    x = rng(0).standard_normal((301, 7)).astype(dtype)
    x.flat[:6] = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e30]
    column, line = x[:, :1].copy(), x[0].copy()

    def step(carry, row, x, column, line):
        (w,) = carry
        xp = w.__array_namespace__()
        y = xp.where(w > 0, xp.exp(-w), w * column) + line
        y += x
        below = y[1:]
        below += y[:-1]
        y *= 0.5
        return (xp.astype(y, x.dtype) - xp.minimum(w, column),), (y[0, 0],)

    fold = held_to_eager(step, (x.copy(),), [(rows_of(6), x, column, line)])
    assert shared_by(fold).count("_share") == 12


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_fit_has_the_same_bits(activation, monkeypatch):
    def losses(count):
        monkeypatch.setattr(threads, "cores", lambda: count)
        model = xpnn.Sequential(xpnn.Dense(90), xpnn.Activation(activation), xpnn.Dense(3))
        x = rng(0).standard_normal((500, 300))
        history = xpnn.fit(
            model, (x, rng(1).integers(0, 3, 500)), epochs=2, batch_size=96, seed=1, verbose=False
        )
        return history.column("train_loss"), xpnn.predict(model, x).tobytes()

    monkeypatch.setattr(threads, "_LEAST_BYTES", 1)
    monkeypatch.setattr(pace.Pace, "turns", lambda self, count: iter([(True, count)]))
    with threadpool_limits(4, user_api="blas"):
        assert losses(1) == losses(4)


def test_an_error_in_another_thread_is_raised(three):
    def failing(part):
        if part:
            raise FloatingPointError("in a part")

    pool = threads._pool(0, 2)
    with pytest.raises(FloatingPointError, match="in a part"):
        threads._share(pool, [(failing, (0,)), (failing, (1,)), (failing, (0,))])


def test_what_no_thread_has_begun_is_done_here():
    done, free = [], threading.Event()
    pool = threads.ThreadPoolExecutor(1)
    pool.submit(free.wait)
    threads._share(pool, [(done.append, (k,)) for k in range(3)])
    free.set()
    assert sorted(done) == [0, 1, 2]


def test_threads_of_the_blas_are_as_before_afterwards():
    # a library that another test has imported since may have a BLAS of its own
    paths = {library.filepath for library in threads.blas._libraries}

    def of_blas():
        return {i["num_threads"] for i in threadpool_info() if i["filepath"] in paths}

    with threadpool_limits(2, user_api="blas"):
        with threads.blas.on_one_thread():
            assert of_blas() == {1}
            with threads.blas.lent() as lent:
                assert lent
            # another fit, in a thread of its own, would see the number change under its feet
            with threads.blas.on_one_thread():
                assert of_blas() == {1}
                with threads.blas.lent() as lent:
                    assert not lent
            assert of_blas() == {1}
        assert of_blas() == {2}


def test_a_user_who_set_one_thread_gets_one(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 8)
    with threadpool_limits(1, user_api="blas"), threads.blas.on_one_thread():
        assert threads.blas.several() == 1
    monkeypatch.setattr(threads, "cores", lambda: 1)
    with threadpool_limits(4, user_api="blas"), threads.blas.on_one_thread():
        assert threads.blas.several() == 1


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        # a service's own, one around it, one beside it, and that of version 1
        ({"own": "0::/a/b\n", "a/b/cpu.max": "200000 100000\n"}, 2),
        ({"own": "0::/a/b\n", "a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        ({"own": "0::/a/b\n", "a/c/cpu.max": "100000 100000\n"}, 6),
        (
            {
                "own": "3:memory:/m\n2:cpu,cpuacct:/a\n0::/\n",
                "cpu/a/cpu.cfs_quota_us": "400000\n",
                "cpu/a/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
    ],
)
@pytest.mark.parametrize("told", ["sched_getaffinity", "process_cpu_count"])
def test_cores_of_a_container(files, count, told, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores_module, "_GROUPS", tmp_path)
    monkeypatch.setattr(cores_module, "_OWN", tmp_path / "own")
    monkeypatch.delattr(cores_module.os, "process_cpu_count", raising=False)
    answers = {"sched_getaffinity": lambda _: set(range(6)), "process_cpu_count": lambda: 6}
    monkeypatch.setattr(cores_module.os, told, answers[told], raising=False)
    assert cores_module.cores() == count


class Clock:
    """Steps that take given times, in which this thread has the processor for a given part."""

    def __init__(self, monkeypatch):
        self.wall = self.own = 0.0
        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(pace.time, "thread_time", lambda: self.own)

    def play(self, chosen, count, one, several, share=1.0):
        """Do `count` steps; return which part of them several threads did."""
        done = 0
        for way, steps in chosen.turns(count):
            self.wall += steps * (several if way else one)
            self.own += steps * (several if way else one) * (share if way else 1.0)
            done += steps * way
        return done / count


def test_the_faster_way_is_taken(monkeypatch):
    clock, chosen = Clock(monkeypatch), pace.Pace()
    assert clock.play(chosen, 10_000, 1e-3, 0.6e-3) > 0.98
    assert clock.play(chosen, 10_000, 1e-3, 1.3e-3) < 0.03
    assert clock.play(chosen, 10_000, 1e-3, 0.6e-3) > 0.6


def test_other_processes_make_it_one_thread(monkeypatch):
    """They were faster, if only they had a processor each."""
    clock, chosen = Clock(monkeypatch), pace.Pace()
    assert clock.play(chosen, 1_000, 1e-3, 0.6e-3) > 0.9
    assert clock.play(chosen, 10_000, 1e-3, 0.9e-3, share=0.5) < 0.03


def test_long_steps_are_looked_at_one_by_one(monkeypatch):
    clock, chosen = Clock(monkeypatch), pace.Pace()
    clock.play(chosen, 8, 1.0, 0.5)
    assert [steps for _, steps in chosen.turns(3)] == [1, 1, 1]
