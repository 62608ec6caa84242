"""The contenders of `epochs.py`: one and the same training by xpnn, other libraries and by hand.

Each is a function of a case and a worker's turns. It sets itself up and runs ``case.epochs``
epochs, each between ``turns.begin()`` and ``turns.end(loss, accuracy)``: the order of the samples
is drawn, each mini-batch is gathered from the data in memory, and the running loss and accuracy
are known on the host at the end.

On a CUDA card, an epoch begins and ends with the card idle, so the wall clock measures all
contenders alike. CuPy and PyTorch also record a CUDA event at the beginning and one at the end of
the stream that they work on: the time between these is the card's own. JAX doesn't show its
streams, so it has the wall clock only, which stops after ``block_until_ready``.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import time
from dataclasses import dataclass

import numpy as np

import xpnn
from xpnn.backends import get_backend
from xpnn.datasets import read_idx_folder

RATE = 0.1
SEED = 10

ACTIVATIONS = ("relu", "swish", "h_swish", "mish", "tanhexp")
WITHOUT_EVENTS = ("xpnn-jax", "jax")


class SkipError(Exception):
    """A contender can't run here, and why."""


@dataclass(frozen=True)
class Case:
    """What all contenders train: 784 inputs, ReLU's kin between, 10 outputs, SGD."""

    network: str
    sizes: tuple[int, ...]
    batch: int
    samples: int
    activation: str
    dtype: str
    epochs: int
    data: str
    device: str = "cpu"
    threads: int | None = 1  # None: each library's own default

    def __str__(self) -> str:
        return f"{self.network} {self.activation} {self.dtype}"

    @functools.cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples in the case's dtype, and their labels."""
        if self.data == "random":
            rng = np.random.RandomState(0)
            y = rng.randint(10, size=self.samples)
            # a fifth of the pixels lit, half of them by the class, as in MNIST
            lit = rng.random_sample((10, self.sizes[0])) < 0.2
            x = np.where(rng.random_sample((self.samples, self.sizes[0])) < 0.5, lit[y], 0.0)
            x = np.where(rng.random_sample(x.shape) < 0.1, rng.random_sample(x.shape), x)
        else:
            train, _ = read_idx_folder(self.data)
            x, y = train.x[: self.samples], train.y[: self.samples]
        return np.array(x, dtype=self.dtype), np.array(y)

    def initial(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the initial weights and biases, He-normal and zero."""
        rng = np.random.RandomState(SEED)
        draw = xpnn.initializers.he_normal
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return [
            (draw(rng, n, m).astype(self.dtype), np.zeros(m, dtype=self.dtype)) for n, m in pairs
        ]

    def orders(self):
        """Yield each epoch's order, a row of sample numbers per mini-batch."""
        rng = np.random.RandomState(SEED)
        while True:
            order = np.arange(self.samples)
            rng.shuffle(order)
            yield order.reshape(-1, self.batch)


class Clock:
    """Wall clock and CPU time."""

    def start(self):
        """Begin to measure."""
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def stop(self):
        """Return the seconds since the start, by clock."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"wall": wall, "cpu": cpu}


class CardClock(Clock):
    """CUDA events as well; waits until the card is idle before it starts and before it stops."""

    def start(self):
        """Begin to measure."""
        self.event().synchronize()
        self.begun = self.event()
        super().start()

    def stop(self):
        """Return the seconds since the start, by clock."""
        ended = self.event()
        ended.synchronize()
        return super().stop() | {"events": self.milliseconds(self.begun, ended) / 1e3}


class CupyClock(CardClock):
    """Times what CuPy runs on the current stream of the current device."""

    def __init__(self):
        import cupy

        self.cuda = cupy.cuda

    def event(self):
        """Return an event that was just recorded."""
        event = self.cuda.Event()
        event.record()
        return event

    def milliseconds(self, begun, ended):
        """Return the time between two events."""
        return self.cuda.get_elapsed_time(begun, ended)


class TorchClock(CardClock):
    """Times what PyTorch runs on the current stream of a device."""

    def __init__(self, device):
        import torch

        self.cuda, self.device = torch.cuda, device

    def event(self):
        """Return an event that was just recorded."""
        event = self.cuda.Event(enable_timing=True)
        event.record(self.cuda.current_stream(self.device))
        return event

    def milliseconds(self, begun, ended):
        """Return the time between two events."""
        return begun.elapsed_time(ended)


def clock_of(name, case):
    """Return the clock that measures a contender."""
    if case.device == "cpu" or name in WITHOUT_EVENTS:
        return Clock()
    return TorchClock(case.device) if "torch" in name else CupyClock()


class Turns:
    """A contender's end of the pipe on which it is told to run its next epoch."""

    def __init__(self, pipe, clock):
        self.pipe, self.clock = pipe, clock
        self.first = True

    def begin(self):
        """Wait for the next turn, and start the clocks."""
        if self.first:
            self.pipe.send(("ready",))
            self.first = False
        self.pipe.recv()
        gc.collect()
        self.clock.start()

    def end(self, loss=None, accuracy=None):
        """Stop the clocks and hand in what the epoch took and gave."""
        self.pipe.send(("done", self.clock.stop(), loss, accuracy))


class Losses:
    """Turns that are taken at once, and keep the running losses alone."""

    def __init__(self):
        self.losses = []

    def begin(self):
        """Go ahead."""

    def end(self, loss=None, accuracy=None):
        """Keep the loss."""
        self.losses.append(loss)


class _Callback(xpnn.Callback):
    def __init__(self, turns, epochs):
        self.turns, self.epochs = turns, epochs

    def on_epoch(self, epoch):
        if epoch.epoch > 0:
            self.turns.end(epoch.train_loss, epoch.train_accuracy)
        if epoch.epoch < self.epochs:
            self.turns.begin()


def model_of(case):
    """Return xpnn's network for a case."""
    layers = []
    for w, b in case.initial():
        layers += [
            xpnn.Dense(len(b), weight=w, bias=b),
            xpnn.Activation(case.activation),
        ]
    return xpnn.Sequential(*layers[:-1])


def place_of(case, backend):
    """Return xpnn's backend on the case's device; raise `SkipError` if it has none such."""
    try:
        return get_backend(backend, device=case.device, dtype=case.dtype)
    except xpnn.errors.BackendError as error:
        raise SkipError(str(error)) from None


def train_on_one_thread(case, turns):
    """`xpnn.fit` on NumPy, its BLAS on one thread, to compare several threads with."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        train_xpnn(case, turns, "numpy")


def train_xpnn(case, turns, backend):
    """`xpnn.fit`, with a callback that takes the turns."""
    if backend == "torch":
        set_torch_threads(case)
    place = place_of(case, backend)
    xpnn.fit(
        model_of(case),
        case.arrays,
        optimizer=xpnn.SGD(lr=RATE),
        # the others' figures have no floor
        loss=xpnn.CrossEntropy(floor=1e-30),
        epochs=case.epochs,
        batch_size=case.batch,
        seed=SEED,
        backend=place,
        callbacks=[_Callback(turns, case.epochs)],
        verbose=False,
    )


def relu(u, xp=np):
    """Value and derivative, as the four that follow."""
    return xp.maximum(u, 0), u > 0


def swish(u, xp=np):
    s = 1 / (1 + xp.exp(-u))
    z = u * s
    return z, s + z * (1 - s)


def h_swish(u, xp=np):
    z = u * xp.clip(u + 3, 0, 6) / 6
    return z, xp.where(u > 3, 1, xp.where(u > -3, (2 * u + 3) / 6, 0)).astype(u.dtype, copy=False)


def mish(u, xp=np):
    e = xp.exp(xp.minimum(u, 20))
    n = e * (e + 2)
    d = n + 2
    t = n / d
    return u * t, t + u * (4 * e * (1 + e) / (d * d))


def tanhexp(u, xp=np):
    e = xp.exp(xp.minimum(u, 20))
    t = xp.tanh(e)
    return u * t, t + u * e * (1 - t * t)


BY_HAND = {f.__name__: f for f in (relu, swish, h_swish, mish, tanhexp)}


def by_hand(case, xp):
    """Return a function that takes a training step in plain NumPy or CuPy.

    It is written as by somebody who knows the library: gradients go into buffers, there are few
    temporaries. It returns the sum of the losses and the number of hits, 0-d arrays on a card.
    """
    pairs = [(xp.asarray(w), xp.asarray(b)) for w, b in case.initial()]
    (w1, b1), (w2, b2), (w3, b3) = pairs
    g1, g2, g3 = (xp.empty_like(w) for w in (w1, w2, w3))
    function = functools.partial(BY_HAND[case.activation], xp=xp)
    every = xp.arange(case.batch)

    def step(xb, yb):
        u1 = xb @ w1
        u1 += b1
        z1, slope1 = function(u1)
        u2 = z1 @ w2
        u2 += b2
        z2, slope2 = function(u2)
        u3 = z2 @ w3
        u3 += b3

        hits = xp.count_nonzero(u3.argmax(axis=1) == yb)
        u3 -= u3.max(axis=1, keepdims=True)
        d3 = xp.exp(u3)
        sums = d3.sum(axis=1, keepdims=True)
        loss = (xp.log(sums[:, 0]) - u3[every, yb]).sum()
        d3 /= sums
        d3[every, yb] -= 1
        d3 /= case.batch

        xp.matmul(z2.T, d3, out=g3)
        d2 = d3 @ w3.T
        d2 *= slope2
        xp.matmul(z1.T, d2, out=g2)
        d1 = d2 @ w2.T
        d1 *= slope1
        xp.matmul(xb.T, d1, out=g1)

        for w, g in ((w1, g1), (w2, g2), (w3, g3)):
            g *= RATE
            w -= g
        for b, d in ((b1, d1), (b2, d2), (b3, d3)):
            b -= RATE * d.sum(axis=0)
        return loss, hits

    return step


def train_numpy(case, turns):
    """Plain NumPy."""
    x, y = case.arrays
    step = by_hand(case, np)
    for _, order in zip(range(case.epochs), orders_in_turn(case, turns), strict=False):
        total, hits = 0.0, 0
        with np.errstate(over="ignore"):
            for rows in order:
                loss, right = step(x[rows], y[rows])
                total += float(loss)
                hits += right
        turns.end(total / case.samples, hits / case.samples)


def train_cupy(case, turns):
    """Plain CuPy: the host waits for the card once, at the end of an epoch."""
    import cupy

    with place_of(case, "cupy").device:
        x, y = map(cupy.asarray, case.arrays)
        step = by_hand(case, cupy)
        for _, order in zip(range(case.epochs), orders_in_turn(case, turns), strict=False):
            figures = [step(x[rows], y[rows]) for rows in cupy.asarray(order)]
            losses, hits = (cupy.stack(column) for column in zip(*figures, strict=True))
            total = float(losses.sum(dtype="float64"))
            turns.end(total / case.samples, int(hits.sum()) / case.samples)


def orders_in_turn(case, turns):
    """Yield each epoch's order, drawn within its turn."""
    orders = case.orders()
    while True:
        turns.begin()
        yield next(orders)


def train_floor(case, turns):
    """Compute the eight products of each step only, into preallocated outputs; no gather.

    NumPy's BLAS computes them, or on a card cuBLAS, which CuPy calls.
    """
    xp, device = np, contextlib.nullcontext()
    if case.device != "cpu":
        place = place_of(case, "cupy")
        xp, device = place.library, place.device
    with device:
        products(case, turns, xp)


def products(case, turns, xp):
    x, _ = case.arrays
    (w1, _), (w2, _), (w3, _) = case.initial()
    x, w1, w2, w3 = map(xp.asarray, (x, w1, w2, w3))
    rng = np.random.RandomState(0)

    def some(width):
        return xp.asarray(rng.random_sample((case.batch, width)).astype(case.dtype))

    _, n1, n2, n3 = case.sizes
    z1, z2, d1, d2, d3 = some(n1), some(n2), some(n1), some(n2), some(n3)
    u1, u2, u3, e1, e2 = (xp.empty_like(a) for a in (z1, z2, d3, z1, z2))
    g1, g2, g3 = (xp.empty_like(w) for w in (w1, w2, w3))
    for _ in range(case.epochs):
        turns.begin()
        for i in range(0, case.samples, case.batch):
            xb = x[i : i + case.batch]
            xp.matmul(xb, w1, out=u1)
            xp.matmul(z1, w2, out=u2)
            xp.matmul(z2, w3, out=u3)
            xp.matmul(z2.T, d3, out=g3)
            xp.matmul(d3, w3.T, out=e2)
            xp.matmul(z1.T, d2, out=g2)
            xp.matmul(d2, w2.T, out=e1)
            xp.matmul(xb.T, d1, out=g1)
        turns.end()


def set_torch_threads(case):
    """Let PyTorch use the case's number of threads."""
    import torch

    if case.threads is not None:
        torch.set_num_threads(case.threads)


def train_torch(case, turns, compiled=False):
    """PyTorch: `torch.nn`, autograd and `torch.optim.SGD`, eager or under `torch.compile`."""
    import torch

    set_torch_threads(case)
    device = place_of(case, "torch").device

    class TanhExp(torch.nn.Module):
        def forward(self, u):
            return u * torch.tanh(torch.exp(u))

    kinds = {
        "relu": torch.nn.ReLU,
        "swish": torch.nn.SiLU,
        "h_swish": torch.nn.Hardswish,
        "mish": torch.nn.Mish,
        "tanhexp": TanhExp,
    }
    layers = []
    for w, b in case.initial():
        linear = torch.nn.Linear(*w.shape)
        linear.weight = torch.nn.Parameter(torch.from_numpy(np.ascontiguousarray(w.T)))
        linear.bias = torch.nn.Parameter(torch.from_numpy(b))
        layers += [linear, kinds[case.activation]()]
    model = torch.nn.Sequential(*layers[:-1]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    x, y = (torch.from_numpy(array).to(device) for array in case.arrays)

    def objective(xb, yb):
        outputs = model(xb)
        loss = torch.nn.functional.cross_entropy(outputs, yb)
        return loss, (outputs.argmax(dim=1) == yb).sum()

    step = optimizer.step
    if compiled:
        # it warns of the profiler's hooks in the optimizer's step
        logging.getLogger("torch").setLevel(logging.ERROR)
        objective, step = torch.compile(objective), torch.compile(step)

    def epoch(order):
        total = torch.zeros((), dtype=x.dtype, device=device)
        hits = torch.zeros((), dtype=y.dtype, device=device)
        for rows in torch.from_numpy(order).to(device):
            # a third of the time of x[rows]
            loss, right = objective(x.index_select(0, rows), y.index_select(0, rows))
            optimizer.zero_grad()
            loss.backward()
            step()
            total += loss.detach()
            hits += right
        return float(total) / len(order), float(hits) / case.samples

    for _, order in zip(range(case.epochs), orders_in_turn(case, turns), strict=False):
        try:
            figures = epoch(order)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise SkipError(f"torch.compile fails here: {first_line(error)}") from None
        turns.end(*figures)


def train_jax(case, turns):
    """JAX: `value_and_grad`, and a whole epoch as one compiled `scan`."""
    import jax
    from jax import numpy as jnp

    activation = {
        "relu": jax.nn.relu,
        "swish": jax.nn.silu,
        "h_swish": jax.nn.hard_swish,
        "mish": jax.nn.mish,
        "tanhexp": lambda u: u * jnp.tanh(jnp.exp(u)),
    }[case.activation]

    def objective(parameters, xb, yb):
        *hidden, (w, b) = parameters
        for v, c in hidden:
            xb = activation(xb @ v + c)
        outputs = xb @ w + b
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), yb[:, None], axis=1)
        return -jnp.mean(chosen), jnp.sum(jnp.argmax(outputs, axis=1) == yb)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(parameters, order, x, y):
        def step(parameters, rows):
            gradient = jax.value_and_grad(objective, has_aux=True)
            figures, gradients = gradient(parameters, x[rows], y[rows])
            return jax.tree.map(lambda w, g: w - RATE * g, parameters, gradients), figures

        parameters, (losses, hits) = jax.lax.scan(step, parameters, order)
        return parameters, jnp.mean(losses), jnp.sum(hits)

    # float32 products on a GPU as exact as the other contenders'
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        place = place_of(case, "jax").device
        x, y, parameters = jax.device_put((*case.arrays, case.initial()), place)
        for _, order in zip(range(case.epochs), orders_in_turn(case, turns), strict=False):
            result = epoch(parameters, jax.device_put(order, place), x, y)
            parameters, loss, hits = jax.block_until_ready(result)
            turns.end(float(loss), float(hits) / case.samples)


def train_sklearn(case, turns):
    """scikit-learn's `MLPClassifier`: an epoch is a `partial_fit`. It keeps no running accuracy."""
    import sklearn
    from sklearn.neural_network import MLPClassifier

    if case.activation != "relu":
        raise SkipError("scikit-learn has ReLU alone of these")
    x, y = case.arrays
    classifier = MLPClassifier(
        case.sizes[1:-1],
        activation="relu",
        solver="sgd",
        alpha=0.0,
        batch_size=case.batch,
        learning_rate_init=RATE,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=0,
    )
    with sklearn.config_context(assume_finite=True):
        # makes the arrays, which then take the common initial values
        classifier.partial_fit(x[: case.batch], y[: case.batch], classes=np.arange(case.sizes[-1]))
        for i, (w, b) in enumerate(case.initial()):
            classifier.coefs_[i][...] = w
            classifier.intercepts_[i][...] = b
        # one stream for all epochs: a whole number would start anew with each
        classifier.random_state = np.random.RandomState(SEED)
        for _ in range(case.epochs):
            turns.begin()
            classifier.partial_fit(x, y)
            turns.end(float(classifier.loss_curve_[-1]))


CONTENDERS = {
    "xpnn-numpy": functools.partial(train_xpnn, backend="numpy"),
    "xpnn-numpy-1": train_on_one_thread,
    "xpnn-torch": functools.partial(train_xpnn, backend="torch"),
    "xpnn-jax": functools.partial(train_xpnn, backend="jax"),
    "xpnn-cupy": functools.partial(train_xpnn, backend="cupy"),
    "numpy": train_numpy,
    "cupy": train_cupy,
    "torch": train_torch,
    "torch-compile": functools.partial(train_torch, compiled=True),
    "jax": train_jax,
    "sklearn": train_sklearn,
    "floor": train_floor,
}
CPU_ALONE = ("xpnn-numpy", "xpnn-numpy-1", "numpy", "sklearn")
CUDA_ALONE = ("xpnn-cupy", "cupy")


def first_line(error):
    """Return the first line of an error's text."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def work(name, case, pipe):
    """Run a contender in a worker; say over the pipe if it can't."""
    try:
        CONTENDERS[name](case, Turns(pipe, clock_of(name, case)))
    except SkipError as reason:
        pipe.send(("skip", str(reason)))
    except ModuleNotFoundError as error:
        pipe.send(("skip", f"{error.name} is not installed"))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # the parent has closed its end
        pass
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {first_line(error)}"))
