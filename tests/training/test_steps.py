"""Which steps may share what a compiler makes of them, and that JAX's do."""

import functools

import numpy as np
import pytest

import xpnn
from tests.helpers import open_backend
from xpnn import backends
from xpnn._core.scopes import where
from xpnn.backends import JaxBackend
from xpnn.training.steps import EvaluationStep, InitialState, TrainingStep

RNG = np.random.RandomState(4)
X, Y = RNG.standard_normal((23, 5)).astype(np.float32), RNG.randint(3, size=23)


def network(n=6.0, p=0.5, eps=1e-5, **weights):
    return xpnn.Sequential(
        xpnn.Dense(4, **weights),
        xpnn.BatchNorm(eps=eps),
        xpnn.Activation("h_swish", n=n),
        xpnn.Dropout(p),
        xpnn.Dense(3),
    )


def step(*layers, loss=None, optimizer=None, dtype="float32", **options):
    model = xpnn.Sequential(*layers) if layers else network()
    loss = xpnn.Flooding(xpnn.CrossEntropy(), 0.1) if loss is None else loss
    return TrainingStep(model.network, loss, optimizer or xpnn.Adam(), np.dtype(dtype), **options)


class Own(xpnn.Dense):
    """A layer of one's own, which may do anything."""


class Rate(xpnn.SGD):
    """An optimizer that a dataclass's comparison takes for another one."""

    def __init__(self, extra):
        super().__init__()
        object.__setattr__(self, "extra", extra)


def test_equal_settings_make_equal_steps():
    assert step() == step()
    assert len({step(), step(), step(loss=xpnn.CrossEntropy())}) == 2
    assert InitialState(xpnn.Adam()) == InitialState(xpnn.Adam())
    loss = xpnn.CrossEntropy()
    # a value that the loss keeps once it was asked for is no setting
    first = step(loss=loss)
    loss.reported(np.ones(2), xp=np)
    assert first == step(loss=loss) == step(loss=xpnn.CrossEntropy())


@pytest.mark.parametrize(
    "other",
    [
        step(*network(n=5.0).layers),
        step(*network(p=0.25).layers),
        step(*network(eps=1e-4).layers),
        step(*network().layers[:-1]),
        step(loss=xpnn.Flooding(xpnn.CrossEntropy(), 0.2)),
        step(loss=xpnn.Flooding(xpnn.CrossEntropy(label_smoothing=0.1), 0.1)),
        step(loss=xpnn.CrossEntropy()),
        step(optimizer=xpnn.Adam(lr=0.1)),
        step(optimizer=xpnn.AdamW()),
        step(dtype="float64"),
        step(scheduled=True),
        step(clip_norm=1.0),
        EvaluationStep(network().network, xpnn.CrossEntropy(), np.dtype("float32")),
    ],
)
def test_another_setting_makes_another_step(other):
    assert other.key is not None
    assert other != step()


def test_zeros_of_either_sign_are_told_apart():
    assert step(clip_norm=0.0) != step(clip_norm=-0.0)


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(step, Own(3)),
        functools.partial(step, xpnn.Dense(3, weight=np.zeros((5, 3)))),
        functools.partial(step, optimizer=Rate(1)),
        functools.partial(step, loss=xpnn.Flooding(type("Own", (xpnn.CrossEntropy,), {})(), 0.1)),
    ],
)
def test_a_part_of_ones_own_is_equal_to_nothing(make):
    one, other = make(), make()
    assert one.key is None
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_an_activation_of_ones_own_is_equal_to_nothing(kept):
    @xpnn.activations.register(replace=True)
    def relu(u, *, xp):
        return 2 * u, lambda dz: 2 * dz

    assert step(xpnn.Dense(3), xpnn.Activation("relu")).key is None


def test_a_network_has_no_arrays():
    model = network()
    xpnn.fit(model, (X, Y), epochs=1, seed=1)
    assert model.network.layers == model.layers
    assert vars(model.network) == {"layers": model.layers}
    assert model.parameters is not None


def test_runs_of_equal_networks_compile_once():
    open_backend("jax", "float32")
    folds = []

    class Kept(JaxBackend):
        def fold(self, step):
            folds.append(super().fold(step))
            return folds[-1]

    def hash_of(lr=0.01, model=network):
        model = model()
        xpnn.fit(
            model, (X, Y), validation=(X, Y), epochs=2, batch_size=8, seed=1,
            optimizer=xpnn.Adam(lr=lr), backend=Kept(),
        )  # fmt: skip
        return model.sha256()

    first = hash_of()
    sizes = [fold._cache_size() for fold in folds]
    assert hash_of() == first
    assert folds[:2] == folds[2:]
    assert [fold._cache_size() for fold in folds[2:]] == sizes
    assert hash_of(lr=0.02) != first
    # the evaluation doesn't depend on the optimizer
    assert folds[4] != folds[0]
    assert folds[5] == folds[1]
    own = functools.partial(network, weight=np.ones((5, 4)))
    hash_of(model=own)
    hash_of(model=own)
    assert len({*map(id, folds)}) == 3 + 4


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (xpnn.BatchNorm, lambda layer: setattr(layer, "eps", 10.0)),
        (
            functools.partial(xpnn.Activation, "elu"),
            lambda layer: layer.parameters.update(alpha=3.0),
        ),
    ],
)
def test_a_layer_that_is_changed_later_changes_no_other_network(layer, change):
    """Other shapes are traced later."""
    open_backend("jax", "float32")

    def fitted(batch_size):
        model = xpnn.Sequential(xpnn.Dense(4), layer(), xpnn.Dense(3))
        xpnn.fit(model, (X, Y), epochs=1, batch_size=batch_size, seed=1, backend="jax")
        return model

    expected = fitted(7).sha256()
    backends.jax._kept.cache_clear()
    change(fitted(8).layers[1])
    assert fitted(7).sha256() == expected


class Seen(xpnn.Dense):
    """A layer that notes where it is computed."""

    def __init__(self, units, places):
        super().__init__(units)
        self.places = places

    def forward(self, parameters, x, *, xp):
        self.places.append(str(where()))
        y, pullback = super().forward(parameters, x, xp=xp)

        def seen(dy, input_gradient=True):
            self.places.append(str(where()))
            return pullback(dy, input_gradient)

        return y, seen


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 24.0)])
@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax"])
def test_parts_know_where_they_are_computed(library, weights):
    places = []

    class SeenLoss(xpnn.CrossEntropy):
        def samples(self, outputs, targets, *, xp):
            places.append(str(where()))
            return super().samples(outputs, targets, xp=xp)

        def hits(self, outputs, targets, *, xp):
            places.append(str(where()))
            return super().hits(outputs, targets, xp=xp)

    class SeenOptimizer(xpnn.SGD):
        def update(self, parameters, gradients, state, *, xp=None):
            places.append(str(where()))
            return super().update(parameters, gradients, state, xp=xp)

    model = xpnn.Sequential(Seen(4, places), xpnn.Activation("tanh"), Seen(3, places))
    xpnn.fit(
        model, (X, Y), epochs=1, batch_size=23, seed=1, loss=SeenLoss(),
        optimizer=SeenOptimizer(), clip_norm=1.0, sample_weight=weights,
        backend=open_backend(library, "float32"),
    )  # fmt: skip
    assert model.names == ("dense1", "tanh1", "dense2")
    assert places[-7:] == [
        *("dense1 forward", "dense2 forward", "loss", "accuracy"),
        *("dense2 backward", "dense1 backward", "optimizer"),
    ]
    # the untrained network is evaluated first, where nothing goes backward
    assert places[:4] == ["dense1 forward", "dense2 forward", "loss", "accuracy"]
    assert where() is None


def test_an_error_in_a_part_names_the_layer():
    class Broken(xpnn.Dense):
        def forward(self, parameters, x, *, xp):
            y, _ = super().forward(parameters, x, xp=xp)
            return y, lambda dy, input_gradient=True: 1 / 0

    model = xpnn.Sequential(xpnn.Dense(4), Broken(3))
    with pytest.raises(ZeroDivisionError) as caught:
        xpnn.fit(model, (X, Y), epochs=1, seed=1)
    assert caught.value.__notes__ == ["in dense2 backward"]
