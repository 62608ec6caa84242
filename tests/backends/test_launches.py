"""What a step costs on a GPU, by counts: launches, and copies that wait for them.

A launch is a kernel or a call of cuBLAS. They are planned without a card for all parts, and counted
on the emulated card of ci/cuda_on_cpu for some of them.
"""

import array_api_compat.numpy
import numpy as np
import pytest

import xpnn
from tests.helpers import emulated_driver, open_backend
from xpnn import recording
from xpnn.activations import ACTIVATIONS
from xpnn.backends import NumpyBackend, ReproducibleBackend, get_backend
from xpnn.optimizers import OPTIMIZERS
from xpnn.recording.card import CardFold

RNG = np.random.default_rng(0)
# pixels, most of them black as MNIST's are; brighter ones saturate the network
SHAPE = (1000, 784)
X = (RNG.integers(0, 256, SHAPE) * (RNG.random(SHAPE) < 0.2) / 255).astype(np.float32)
Y = RNG.integers(0, 10, 1000)
TO_DEVICE, TO_HOST = 1, 2

# Launches of a step of 784-100-50-10 with cross entropy, native in float32 and in float64, which
# MNIST's pixels are turned into, and reproducible in both; of which 8, 8, 8 and 22 are products.
# They are the same for each activation and optimizer.
STEP = (17, 17, 25, 39)
# of an evaluation
EVALUATION = (11, 11, 18, 23)

# steps of other kinds, with ReLU and SGD, and their launches
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
    # precision, recall and F1 come from the same counts
    "metrics": {"metrics": "precision,recall,f1_weighted,top_k,roc_auc"},
    "errors": {"loss": xpnn.MeanSquaredError(), "y": np.eye(10)[Y], "metrics": "mae,rmse,r2"},
}
BOUNDS = {
    "layers": (15, 15, 23, 31),
    "flooding": (19, 19, 29, 43),
    "regression": (15, 15, 22, 36),
    "bce": (15, 15, 22, 36),
    "mae": (15, 15, 22, 36),
    "huber": (15, 15, 22, 36),
    "poisson": (15, 15, 22, 36),
    "quantile": (15, 15, 22, 36),
    "quantiles": (15, 15, 22, 36),
    "focal": (18, 18, 27, 41),
    "weighted focal": (18, 18, 27, 41),
    "binary focal": (15, 15, 22, 36),
    "clipping": (18, 18, 27, 41),
    "weights": (17, 17, 25, 39),
    "metrics": (17, 17, 25, 39),
    "errors": (15, 15, 22, 36),
}


def bound(bounds, dtype, reproducible):
    return bounds[2 * reproducible + (dtype == "float64")]


def trained(backend, *, activation="relu", layers=None, y=Y, rows=400, epochs=1, **options):
    usual = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation(activation))]
    return xpnn.fit(
        xpnn.Sequential(*(layers or usual), xpnn.Dense(10)), (X[:rows], y[:rows]),
        epochs=epochs, batch_size=100, seed=1, backend=backend, **options,
    )  # fmt: skip


class Planner:
    """A card that isn't there."""

    def kernels(self, text, blocks, threads):
        return []

    def memory(self, size):
        return np.empty(size, np.uint8)

    def constant(self, host):
        return host


class Planned(NumpyBackend):
    """NumPy, with notes of how many launches each step would take on a card."""

    apart = True

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        self.launches = []

    def recorded(self, step, eager, leaf=None):
        xp = recording.recording_namespace(array_api_compat.numpy)
        own = recording.PLAIN if leaf is None else leaf(xp)
        fold = CardFold(step, xp, Planner(), np.empty, eager, own)
        launches = []
        self.launches.append(launches)

        def run(carry, rows, *context):
            found = fold.program(carry, rows, context)
            assert found is not None, fold.reason
            launches.append(found.program.launches)
            return eager(carry, rows, *context)

        return run


def plan_of(dtype, reproducible, **settings):
    """Return the launches of a training step, and those of an evaluation."""
    planned = Planned(dtype)
    trained(ReproducibleBackend(planned) if reproducible else planned, **settings)
    (step, *_), (evaluation, *_) = planned.launches
    return step, evaluation


def check_plan(bounds, dtype, reproducible, **settings):
    step, evaluation = plan_of(dtype, reproducible, **settings)
    assert 0 < step <= bound(bounds, dtype, reproducible)
    assert 0 < evaluation <= bound(EVALUATION, dtype, reproducible)


NATIVELY_OR_NOT = pytest.mark.parametrize(
    "reproducible", [False, True], ids=["native", "reproducible"]
)
# weight decay isn't every optimizer's default
OWN = [xpnn.SGD(weight_decay=0.1)]


@NATIVELY_OR_NOT
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_plan_of_a_step_with_each_activation(activation, reproducible, dtype):
    check_plan(STEP, dtype, reproducible, activation=activation)


@NATIVELY_OR_NOT
@pytest.mark.parametrize(
    "optimizer", [*(optimizer() for optimizer in OPTIMIZERS.values()), *OWN], ids=repr
)
def test_the_plan_of_a_step_with_each_optimizer(optimizer, reproducible, dtype):
    check_plan(STEP, dtype, reproducible, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_plan_of_each_pair(activation, optimizer, dtype):
    check_plan(STEP, dtype, False, activation=activation, optimizer=optimizer, rows=100)


@NATIVELY_OR_NOT
@pytest.mark.parametrize("more", MORE)
def test_the_plan_of_a_step_of_any_kind(more, reproducible, dtype):
    check_plan(BOUNDS[more], dtype, reproducible, **MORE[more])


# On the emulated card


def launches_of(driver):
    return driver.coc_launches() + driver.coc_products()


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


def train(*, dtype, reproducible, **settings):
    """Train on CuPy."""
    device = open_backend("cupy", dtype).options()["device"]
    backend = get_backend("cupy", device=device, dtype=dtype, reproducible=reproducible)
    history = trained(backend, **settings)
    assert "not_recorded" not in history.settings


def check_steps(bounds, *, dtype, reproducible, **settings):
    counts = Counts(emulated_driver())
    train(callbacks=[counts], dtype=dtype, reproducible=reproducible, epochs=2, **settings)
    assert len(counts.steps) == 2 * 3
    launches, *copies = np.max(counts.steps, axis=0)
    assert copies == [0, 0]
    assert 0 < launches <= bound(bounds, dtype, reproducible)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_step_with_each_activation(activation, dtype):
    check_steps(STEP, activation=activation, reproducible=False, dtype=dtype)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_step_with_each_optimizer(optimizer, dtype):
    check_steps(STEP, optimizer=optimizer, reproducible=False, dtype=dtype)


@pytest.mark.parametrize(("activation", "optimizer"), [("relu", "sgd"), ("tanhexp", "adam")])
def test_a_reproducible_step(activation, optimizer, dtype):
    check_steps(STEP, activation=activation, optimizer=optimizer, reproducible=True, dtype=dtype)


@pytest.mark.parametrize("more", MORE)
def test_a_step_of_any_kind(more):
    check_steps(BOUNDS[more], reproducible=False, dtype="float32", **MORE[more])


class Evaluation(xpnn.Callback):
    """Keeps how many kernels an evaluation of the untrained network launches."""

    def __init__(self, driver):
        self.driver, self.launches = driver, None

    def on_start(self, run):
        self.before = launches_of(self.driver)

    def on_epoch(self, epoch):
        self.launches = launches_of(self.driver) - self.before


@NATIVELY_OR_NOT
def test_an_evaluation(reproducible, dtype):
    """Of 1,000 rows at once; a smaller one isn't compiled."""
    counts = Evaluation(emulated_driver())
    train(dtype=dtype, reproducible=reproducible, rows=1000, epochs=0, callbacks=[counts])
    # the six parameters are copied for a second try, and all that was assumed is looked at
    assert 0 < counts.launches <= bound(EVALUATION, dtype, reproducible) + 7 * reproducible


@pytest.mark.parametrize("validated", [False, True])
@NATIVELY_OR_NOT
@pytest.mark.parametrize("rows", [400, 350])
def test_an_epoch_copies_its_order_and_its_figures(rows, reproducible, validated):
    """However many steps it has: whole mini-batches, and a smaller last one if there is one."""
    driver = emulated_driver()
    copies, validation = [], (X[:100], Y[:100]) if validated else None
    for epochs in (1, 1, 2, 4):  # the first run compiles, and brings constants to the device
        before = [driver.coc_copies(kind) for kind in (TO_DEVICE, TO_HOST)]
        train(
            dtype="float32", reproducible=reproducible, rows=rows, epochs=epochs,
            validation=validation,
        )  # fmt: skip
        copies.append(np.array([driver.coc_copies(kind) for kind in (TO_DEVICE, TO_HOST)]) - before)
    del copies[0]
    sweeps, pieces = 1 + validated, (1 if rows % 100 == 0 else 2) + validated
    # the order to the device; to the host losses and hits, and whether what was assumed holds
    assert (copies[1] - copies[0] == [pieces, 2 * pieces + sweeps * reproducible]).all()
    assert (copies[2] - copies[1] == 2 * (copies[1] - copies[0])).all()
