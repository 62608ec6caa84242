"""What a step costs on a GPU, by counts: kernels that are launched, and copies that wait for them.

They are CuPy's own, on the emulated card of ci/cuda_on_cpu.
"""

import numpy as np
import pytest

import xpnn
from tests.helpers import emulated_driver, open_backend
from xpnn.activations import ACTIVATIONS
from xpnn.backends import get_backend
from xpnn.optimizers import OPTIMIZERS

RNG = np.random.default_rng(0)
# pixels, most of them black as MNIST's are; brighter ones saturate the network
X = (RNG.integers(0, 256, (400, 784)) * (RNG.random((400, 784)) < 0.2) / 255).astype(np.float32)
Y = RNG.integers(0, 10, 400)
TO_DEVICE, TO_HOST = 1, 2

# Launches of a step of 784-100-50-10 with SGD and cross entropy, native in float32 and in float64,
# which MNIST's pixels are turned into, and reproducible in both
ACTIVATION = {
    "elu": (60, 61, 679, 678),
    "gelu": (190, 191, 933, 918),
    "h_swish": (70, 71, 565, 560),
    "identity": (42, 43, 505, 512),
    "leaky_relu": (56, 57, 527, 530),
    "mish": (94, 95, 679, 660),
    "relu": (48, 49, 511, 518),
    "relu6": (54, 55, 517, 524),
    "sigmoid": (64, 65, 603, 602),
    "softplus": (72, 73, 833, 816),
    "swish": (72, 73, 615, 614),
    "tanh": (50, 51, 579, 578),
    "tanhexp": (62, 63, 667, 658),
}
# and with ReLU
OPTIMIZER = [
    (xpnn.SGD(), (48, 49, 511, 518)),
    (xpnn.SGD(weight_decay=0.1), (60, 61, 535, 554)),
    (xpnn.Momentum(), (60, 61, 535, 534)),
    (xpnn.Nesterov(), (78, 79, 565, 556)),
    (xpnn.AdaGrad(), (78, 79, 619, 580)),
    (xpnn.RMSprop(), (90, 91, 655, 608)),
    (xpnn.Adam(), (130, 131, 825, 706)),
    (xpnn.AdamW(), (136, 137, 843, 724)),
]


CONDITIONS = [0]


@pytest.fixture(autouse=True)
def conditions(monkeypatch):
    """Count the conditions that `where` gets: CuPy 13 copies each, in one more kernel."""
    open_backend("cupy", "float32")
    import cupy
    from cupy._sorting import search

    where = search._where_ufunc

    def counted(*arguments):
        CONDITIONS[0] += 1
        return where(*arguments)

    if int(cupy.__version__.partition(".")[0]) < 14:
        monkeypatch.setattr(search, "_where_ufunc", counted)


def launches_of(driver):
    """Return the number of kernels so far, without CuPy 13's copies of conditions."""
    return driver.coc_launches() - CONDITIONS[0]


class Counts(xpnn.Callback):
    """Keeps launches, and copies to device and host, of each step but an epoch's first."""

    def __init__(self, driver):
        self.driver, self.steps, self.before = driver, [], None

    def now(self):
        copies = (self.driver.coc_copies(kind) for kind in (TO_DEVICE, TO_HOST))
        return np.array([launches_of(self.driver), *copies])

    def on_batches(self, count):
        assert count == 1
        if self.before is not None:
            self.steps.append(self.now() - self.before)
        self.before = self.now()

    def on_epoch(self, epoch):
        self.before = None


def train(
    activation="relu", *, dtype, reproducible, layers=None, y=Y, rows=400, epochs=2, **options
):
    """Train on CuPy."""
    device = open_backend("cupy", dtype).options()["device"]
    usual = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation(activation))]
    xpnn.fit(
        xpnn.Sequential(*(layers or usual), xpnn.Dense(10)), (X[:rows], y[:rows]),
        epochs=epochs, batch_size=100, seed=1,
        backend=get_backend("cupy", device=device, dtype=dtype, reproducible=reproducible),
        **options,
    )  # fmt: skip


def check_steps(bounds, *, dtype, reproducible, **settings):
    counts = Counts(emulated_driver())
    train(callbacks=[counts], dtype=dtype, reproducible=reproducible, **settings)
    assert len(counts.steps) == 2 * 3
    launches, *copies = np.max(counts.steps, axis=0)
    assert copies == [0, 0]
    assert 0 < launches <= bounds[2 * reproducible + (dtype == "float64")]


@pytest.mark.parametrize("reproducible", [False, True], ids=["native", "reproducible"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_step_with_each_activation(activation, reproducible, dtype):
    # one without bounds fails with what was counted
    check_steps(
        ACTIVATION.get(activation, 4 * (0,)),
        activation=activation,
        reproducible=reproducible,
        dtype=dtype,
    )


def test_each_optimizer_is_counted():
    assert {type(optimizer) for optimizer, _ in OPTIMIZER} == set(OPTIMIZERS.values())


@pytest.mark.parametrize("reproducible", [False, True], ids=["native", "reproducible"])
@pytest.mark.parametrize(("optimizer", "bounds"), OPTIMIZER, ids=lambda value: str(value))
def test_a_step_with_each_optimizer(optimizer, bounds, reproducible, dtype):
    check_steps(bounds, optimizer=optimizer, reproducible=reproducible, dtype=dtype)


MORE = {
    "layers": {
        "layers": [xpnn.Dense(20), xpnn.BatchNorm(), xpnn.Activation("relu"), xpnn.Dropout(0.5)]
    },
    "flooding": {"loss": xpnn.Flooding(xpnn.CrossEntropy(label_smoothing=0.1), 0.5)},
    "regression": {"loss": xpnn.MeanSquaredError(), "y": np.eye(10)[Y]},
    "bce": {"loss": xpnn.BinaryCrossEntropy(), "y": np.eye(10)[Y]},
    "mae": {"loss": xpnn.MeanAbsoluteError(), "y": np.eye(10)[Y]},
    "huber": {"loss": xpnn.Huber(), "y": np.eye(10)[Y]},
    "poisson": {"loss": xpnn.Poisson(), "y": np.eye(10)[Y]},
    "quantile": {"loss": xpnn.Quantile(), "y": np.eye(10)[Y]},
    "quantiles": {"loss": xpnn.Quantile((0.1, 0.9)), "y": np.eye(10)[Y][:, :5]},
    "focal": {"loss": xpnn.Focal()},
    "weighted focal": {"loss": xpnn.Focal(0.5, alpha=10 * (0.5,))},
    "binary focal": {"loss": xpnn.BinaryFocal(alpha=0.25), "y": np.eye(10)[Y]},
    "clipping": {"clip_norm": 0.1, "schedule": xpnn.schedules.Warmup(1, xpnn.schedules.Cosine())},
    "weights": {"sample_weight": np.arange(400) % 3, "class_weight": "balanced"},
}


# launches as above
BOUNDS = {
    "layers": (94, 95, 615, 540),
    "flooding": (55, 56, 547, 529),
    "regression": (33, 34, 367, 377),
    "bce": (56, 57, 574, 557),
    "mae": (38, 39, 368, 378),
    "huber": (37, 38, 373, 383),
    "poisson": (35, 36, 401, 407),
    "quantile": (40, 41, 372, 382),
    "quantiles": (45, 46, 386, 396),
    "focal": (59, 60, 568, 547),
    "weighted focal": (80, 81, 601, 576),
    "binary focal": (84, 85, 652, 634),
    "clipping": (75, 76, 718, 679),
    "weights": (52, 53, 537, 526),
}


@pytest.mark.parametrize("reproducible", [False, True], ids=["native", "reproducible"])
@pytest.mark.parametrize("more", MORE)
def test_a_step_of_any_kind(more, reproducible, dtype):
    check_steps(BOUNDS[more], reproducible=reproducible, dtype=dtype, **MORE[more])


class Evaluation(xpnn.Callback):
    """Keeps how many kernels an evaluation of the untrained network launches."""

    def __init__(self, driver):
        self.driver, self.launches = driver, None

    def on_start(self, run):
        self.before = launches_of(self.driver)

    def on_epoch(self, epoch):
        self.launches = launches_of(self.driver) - self.before


@pytest.mark.parametrize("reproducible", [False, True], ids=["native", "reproducible"])
def test_an_evaluation(reproducible, dtype):
    """Of 400 rows at once, which are one step."""
    counts = Evaluation(emulated_driver())
    train(dtype=dtype, reproducible=reproducible, epochs=0, callbacks=[counts])
    bounds = (29, 30, 330, 311)
    assert 0 < counts.launches <= bounds[2 * reproducible + (dtype == "float64")]


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("reproducible", [False, True], ids=["native", "reproducible"])
@pytest.mark.parametrize("rows", [400, 350])
def test_an_epoch_copies_its_order_and_its_figures(rows, reproducible, validated):
    """However many steps it has: whole mini-batches, and a smaller last one if there is one."""
    driver = emulated_driver()
    train(dtype="float32", reproducible=reproducible, epochs=0)  # a new device is probed, once
    copies = []
    for epochs in (1, 2, 4):
        before = [driver.coc_copies(kind) for kind in (TO_DEVICE, TO_HOST)]
        validation = (X[:100], Y[:100]) if validated else None
        train(
            dtype="float32", reproducible=reproducible, rows=rows, epochs=epochs,
            validation=validation,
        )  # fmt: skip
        copies.append(np.array([driver.coc_copies(kind) for kind in (TO_DEVICE, TO_HOST)]) - before)
    sweeps, pieces = 1 + validated, (1 if rows % 100 == 0 else 2) + validated
    # the order to the device; to the host losses and hits, and whether what was assumed holds
    assert (copies[1] - copies[0] == [pieces, 2 * pieces + sweeps * reproducible]).all()
    assert (copies[2] - copies[1] == 2 * (copies[1] - copies[0])).all()
