"""Every activation against its formula in 60 digits, over the whole range of each dtype."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import mpmath as mp
import numpy as np
import pytest
from array_api_compat import device

import xpnn
from xpnn import activations
from xpnn.activations import ACTIVATIONS
from xpnn.errors import ArgumentError, positive


def constant(ulps):
    return lambda u: ulps


@dataclass(frozen=True, eq=False)
class Case:
    """An activation, its formula, and what its rounding errors may be, in units of eps.

    The bounds follow the operations of xpnn's formulas. A library's exp, expm1, log1p and tanh are
    granted a relative error of 4 (XLA's tanh takes 3.5), a division 1, since XLA may multiply by a
    reciprocal, any other operation and a parameter's own rounding ½. `value` bounds the relative
    error; `slope` bounds the absolute one, in units of the derivative's own size, which is about 1.
    """

    name: str
    formula: Callable
    value: Callable
    slope: Callable
    parameters: dict = field(default_factory=dict)
    kinks: dict = field(default_factory=dict)  # where the derivative jumps, and what it is there

    def __str__(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.parameters.items())])


def relu6(cap, /, **parameters):
    return Case(
        "relu6",
        lambda u: min(max(u, 0), cap),
        constant(0),
        constant(0),
        parameters,
        {0: 0, cap: 0},
    )


def leaky_relu(slope, /, **parameters):
    return Case(
        "leaky_relu",
        lambda u: u if u > 0 else slope * u,
        constant(1),
        constant(abs(slope)),
        parameters,
        {0: slope},
    )


def elu(alpha, /, **parameters):
    return Case(
        "elu",
        lambda u: u if u > 0 else alpha * mp.expm1(u),
        constant(5),
        constant(6 * alpha),  # alpha expm1(u) + alpha: the first term's 5, and its ½
        parameters,
        {} if alpha == 1 else {0: alpha},
    )


def swish(beta, /, **parameters):
    # With x = beta u: rounding x costs up to |x| in exp(x), which counts where exp(x) is a factor
    # (x < 0). The derivative's x s (1 - s) has an error of 2 in 1 - s, until 1 - s is 0 for x = 37.
    return Case(
        "swish",
        lambda u: u / (1 + mp.exp(-beta * u)),
        lambda u: 9 + max(0, -beta * u),
        lambda u: 16 + 2 * min(abs(beta * u), 40),
        parameters,
    )


def h_swish(n, /, **parameters):
    def formula(u):
        return u if u > n / 2 else u * (u + n / 2) / n if u > -n / 2 else mp.mpf(0)

    return Case("h_swish", formula, constant(2.5), constant(3), parameters, {n / 2: 1.5, -n / 2: 0})


def gelu_tanh_argument(u):
    return mp.sqrt(2 / mp.pi) * (u + mp.mpf("0.044715") * u**3)


def gelu_tanh(u):
    v = gelu_tanh_argument(u)
    return u * mp.exp(v) / (mp.exp(v) + mp.exp(-v))  # (1 + tanh(v)) / 2, of full relative precision


CASES = [
    Case("identity", lambda u: u, constant(0), constant(0)),
    Case("relu", lambda u: max(u, 0), constant(0), constant(0), kinks={0: 0}),
    relu6(6),
    relu6(2.5, cap=2.5),
    leaky_relu(0.01),
    leaky_relu(-0.3, negative_slope=-0.3),
    elu(1),
    elu(1.75, alpha=1.75),
    # exp and what 1 + exp makes of its error: 4 + 2, two operations. Derivative: 1 - z has z's 8.
    Case("sigmoid", lambda u: 1 / (1 + mp.exp(-u)), constant(8), constant(10)),
    # 1 - z² has twice z's error
    Case("tanh", mp.tanh, constant(4), constant(10)),
    # log1p's own 4 and that of exp; a sigmoid
    Case("softplus", lambda u: mp.log1p(mp.exp(u)), constant(9), constant(9)),
    swish(1),
    swish(2, beta=2),
    swish(0, beta=0),
    swish(0.3, beta=0.3),
    swish(-1.7, beta=-1.7),
    # 5 in numerator and denominator each. Derivative: 12 in the factor, 25 in the other term, < 0.6
    Case("mish", lambda u: u * mp.tanh(mp.log1p(mp.exp(u))), constant(13), constant(28)),
    h_swish(6),
    h_swish(1, n=1),
    # tanh(exp(u)) is 1 for u > 9, to 7000 digits. Derivative: u e (1 - t²), where 1 - t² has an
    # error of 9, until t is 1 for e = 20.
    Case(
        "tanhexp",
        lambda u: u * mp.tanh(mp.exp(min(u, 9))),
        constant(9),
        lambda u: 10 + (9 * abs(u) * mp.exp(u) if u < 3.1 else 0),
    ),
    # Rounding the exponent, u² / 2, counts for u < 0 as swish's does; so does that of 2 v below,
    # after three operations. There the derivative has (2 v)' u, at most 6 v, in the place of x.
    Case(
        "gelu",
        lambda u: u * mp.erfc(-max(min(u, 100), -1000) / mp.sqrt(2)) / 2,
        lambda u: 11 + (u * u / 2 if u < 0 else 0),
        constant(16),
    ),
    Case(
        "gelu",
        gelu_tanh,
        lambda u: 9 + 3 * max(0, -2 * gelu_tanh_argument(u)),
        lambda u: 24 + 6 * min(abs(2 * gelu_tanh_argument(u)), 40),
        {"approximate": "tanh"},
    ),
]
KINKS = sorted({float(kink) for case in CASES for kink in case.kinks})

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def grid(dtype):
    """Return points over the whole range of a dtype, shape (2, 176).

    ±smallest normal, ±largest, ±log-spaced between them, ±0 to 23 where the functions bend, ±80 to
    110 and ±700 to 760 where exp underflows in float32 and float64, and every kink.
    """
    info = np.finfo(dtype)
    least, largest = float(info.smallest_normal), float(info.max)
    positive = np.concatenate(
        [
            [least, largest],
            np.logspace(np.log10(least), np.log10(largest), 48, dtype=np.float64)[1:-1],
            (np.arange(111) + 0.5) * 0.207,
            np.linspace(80.3, 110.7, 7),
            np.linspace(700.3, 760.7, 7),
        ]
    )
    points = np.concatenate([positive, -positive, KINKS])
    return np.resize(points, (2, 176)).astype(dtype)


@functools.cache
def oracle(case, dtype):
    """Return value, derivative and what each may be wrong by, at each point of the grid."""
    info = np.finfo(dtype)
    eps = float(info.eps)
    # XLA and CUDA flush subnormals, here factors of a u < 1000
    underflow = 1000 * float(info.smallest_normal)
    rows = []
    with mp.workdps(60):
        for point in grid(dtype).ravel():
            u = mp.mpf(float(point))
            z = case.formula(u)
            if point in case.kinks:
                slope = mp.mpf(case.kinks[point])
            else:
                # central difference, wrong by 1e-50 of the third derivative, on one side of a kink
                h = mp.mpf("1e-25") * min([max(1, abs(u)), *(abs(u - k) for k in case.kinks)])
                slope = (case.formula(u + h) - case.formula(u - h)) / (2 * h)
            error, slope_error = case.value(u) * eps * abs(z), case.slope(u) * eps
            rows.append([float(x) for x in (z, slope, error + underflow, slope_error + underflow)])
    return [np.reshape(column, grid(dtype).shape) for column in zip(*rows, strict=True)]


def assert_within(error, actual, expected):
    """Assert that two arrays of the grid's shape differ by no more than `error`; NaN fails."""
    wrong = ~(np.abs(actual.astype(np.float64) - expected) <= error)
    points = grid(actual.dtype)[wrong]
    assert not wrong.any(), f"{actual[wrong]} instead of {expected[wrong]} at {points}"


def assert_like(result, u):
    """Assert that `result` is an array of the library, dtype, device and shape of `u`."""
    assert type(result) is type(u)
    assert (result.dtype, device(result), result.shape) == (u.dtype, device(u), u.shape)


@every_case
def test_value_and_derivative(case, backend, array, dtype):
    """As in training, so compiled where the backend compiles. At a kink, the documented slope."""
    host = grid(dtype)
    signed = np.random.RandomState(0).uniform(-8, 8, host.shape).astype(host.dtype)
    u, dz = array(host), array(signed)
    function = activations.bind(case.name, **case.parameters)

    def run(u, dz):
        z, pullback = function(u, xp=backend.xp)
        return z, pullback(backend.xp.ones_like(dz)), pullback(dz)

    # underflow is the dtype's business; any other warning would be an error
    with np.errstate(all="warn", under="ignore"):
        results = backend.compile(run)(u, dz)

    for result in results:
        assert_like(result, u)
    z, slope, du = map(backend.to_numpy, results)
    value, derivative, value_error, slope_error = oracle(case, dtype)
    assert_within(value_error, z, value)
    assert_within(slope_error, slope, derivative)
    rounding = np.finfo(host.dtype).eps * np.abs(derivative)
    assert_within((slope_error + rounding) * np.abs(signed), du, derivative * signed)
    np.testing.assert_array_equal(backend.to_numpy(u), host)
    np.testing.assert_array_equal(backend.to_numpy(dz), signed)


@every_case
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 4)], ids=str)
def test_any_shape_and_inferred_namespace(case, shape, backend, array):
    u = array(np.linspace(-4, 4, int(np.prod(shape))).reshape(shape))
    function = functools.partial(ACTIVATIONS[case.name], u, **case.parameters)
    (z, pullback), (z_inferred, pullback_inferred) = function(xp=backend.xp), function()
    for given, inferred in ((z, z_inferred), (pullback(u), pullback_inferred(u))):
        assert_like(given, u)
        assert_like(inferred, u)
        np.testing.assert_array_equal(backend.to_numpy(given), backend.to_numpy(inferred))


@every_case
def test_nan_stays_nan(case, backend, array):
    """So that a network that diverged is found by its loss."""
    u = array(np.full((2, 3, 4), np.nan))
    z, _ = activations.bind(case.name, **case.parameters)(u, xp=backend.xp)
    assert np.isnan(backend.to_numpy(z)).all()


def test_a_steep_slope_is_of_no_account_above_0(backend, array, dtype):
    largest = np.finfo(dtype).max
    with np.errstate(all="warn"):
        z, _ = activations.leaky_relu(array(np.array([largest])), 3.0, xp=backend.xp)
    assert backend.to_numpy(z)[0] == largest


def test_every_activation_is_a_case():
    assert set(ACTIVATIONS) == {case.name for case in CASES}


@pytest.fixture
def registry(kept):
    """The registry, as it was before once the test ends."""
    return ACTIVATIONS


def test_own_activation_is_one_line(registry, backend, array):
    @activations.register
    def square(u, *, xp):
        return u * u, lambda dz: 2 * u * dz

    u = array(np.array([-3.0, 0.5]))
    z, pullback = xpnn.Activation("square").forward({}, u, xp=backend.xp)
    assert backend.to_numpy(z).tolist() == [9.0, 0.25]
    assert backend.to_numpy(pullback(u)[0]).tolist() == [18.0, 0.5]
    assert backend.to_numpy(square(u)[0]).tolist() == [9.0, 0.25]


def test_a_signature_says_that_the_namespace_may_be_left_out(registry):
    @activations.register
    def scaled(u, /, a: float = 2.0, *, xp, **rest):
        """Return ``a * u``."""

    assert str(inspect.signature(scaled)) == "(u, /, a: float = 2.0, *, xp: Any = None, **rest)"
    for function in ACTIVATIONS.values():
        assert inspect.signature(function).parameters["xp"].default is None


def test_own_activation_with_a_checked_parameter(registry):
    @activations.register(a=positive)
    def scaled(u, a=2.0, mode="plain", *, xp):
        """Scale."""
        return a * u, lambda dz: a * dz

    u = np.array([1.5])
    assert scaled.__doc__ == "Scale."
    assert registry.parameters("scaled") == {"a": 2.0, "mode": "plain"}
    assert scaled(u)[0] == 3.0
    assert activations.bind("scaled", a=4, mode="other")(u)[0] == 6.0
    with pytest.raises(ArgumentError, match=r"a must be a finite number > 0, got -1"):
        xpnn.Activation("scaled", a=-1)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "h_swich",
            {},
            r"unknown activation 'h_swich'; did you mean 'h_swish'\? \(allowed: .*relu",
        ),
        ("zzz", {}, r"unknown activation 'zzz' \(allowed: "),
        ("swish", {"betta": 1}, r"of activation 'swish': 'betta'; did you mean 'beta'\?"),
        ("relu", {"cap": 6}, r"activation 'relu' has no parameters, got 'cap'"),
        ("swish", {"beta": "wide"}, r"beta must be a finite number, got 'wide'"),
        ("swish", {"beta": float("inf")}, r"beta must be a finite number, got inf"),
        ("swish", {"beta": True}, r"beta must be a finite number, got True"),
        ("leaky_relu", {"negative_slope": float("nan")}, r"negative_slope must be .* got nan"),
        ("relu6", {"cap": 0}, r"cap must be a finite number > 0, got 0"),
        ("elu", {"alpha": -1}, r"alpha must be a finite number > 0, got -1"),
        ("h_swish", {"n": None}, r"n must be a finite number > 0, got None"),
        ("gelu", {"approximate": "tan"}, r"unknown approximate 'tan'; did you mean 'tanh'\?"),
    ],
)
def test_mistakes(name, parameters, message):
    with pytest.raises(ArgumentError, match=message):
        xpnn.Activation(name, **parameters)
