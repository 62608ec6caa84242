"""What a training step costs, by counts that can be pinned: operations and allocations."""

import tracemalloc

import numpy as np
import pytest

import xpnn
from xpnn.activations import ACTIVATIONS
from xpnn.backends import NumpyBackend

RNG = np.random.default_rng(0)
X, Y = RNG.random((300, 784), np.float32), RNG.integers(0, 10, 300)

# of the reference network, 784-100-50-10, with SGD and cross entropy
OPERATIONS = {
    "identity": 37,
    "relu": 43,
    "relu6": 49,
    "leaky_relu": 51,
    "elu": 55,
    "sigmoid": 59,
    "tanh": 45,
    "softplus": 67,
    "swish": 63,
    "mish": 89,
    "h_swish": 65,
    "tanhexp": 57,
    "gelu": 185,
}


def program_of(activation, dtype, optimizer=None):
    """Return the program of a training step of the reference network, and its fold."""
    folds = []

    class Kept(NumpyBackend):
        def fold(self, step):
            folds.append(super().fold(step))
            return folds[-1]

    layers = [part for n in (100, 50) for part in (xpnn.Dense(n), xpnn.Activation(activation))]
    model = xpnn.Sequential(*layers, xpnn.Dense(10))
    xpnn.fit(model, (X, Y), optimizer=optimizer, epochs=1, backend=Kept(dtype=dtype))
    (recorded,) = folds[0].programs
    return recorded


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_operations_of_a_step(activation):
    counts = [len(program_of(activation, dtype).operations) for dtype in ("float32", "float64")]
    # MNIST's pixels are float32
    expected = OPERATIONS.get(activation, 0)
    assert counts == [expected, expected + 1]


@pytest.mark.parametrize(
    ("optimizer", "count"),
    [
        (xpnn.SGD(), 2),
        (xpnn.SGD(weight_decay=0.1), 4),
        (xpnn.Momentum(), 4),
        (xpnn.Nesterov(), 7),
        (xpnn.AdaGrad(), 7),
        (xpnn.RMSprop(), 9),
        # of which eight are on its two numbers
        (xpnn.Adam(), 8 + 13),
        (xpnn.AdamW(), 8 + 14),
    ],
)
def test_operations_of_an_update(optimizer, count):
    """For all six parameters at once."""
    others = OPERATIONS["relu"] - 2
    assert len(program_of("relu", "float32", optimizer).operations) == others + count


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("optimizer", [xpnn.SGD(), xpnn.Nesterov(), xpnn.Adam()], ids=repr)
def test_a_step_allocates_nothing_large(optimizer, activation, dtype):
    step = program_of(activation, dtype, optimizer)
    tracemalloc.start()
    for operation in step.operations:
        operation.function(*operation.args)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000  # bytes; the first layer's weights have 313,600 in float32
