"""Mistakes in an activation are found."""

import pytest

from tests.helpers import open_backend
from xpnn.testing import PartError, check_gradients


def right(u, xp):
    """u tanh(u), whose derivative has two terms."""
    t = xp.tanh(u)
    return u * t, t + u * (1.0 - t * t)


def mistake(change):
    """Return an activation whose pullback is ``change(derivative, dz, u, xp)``."""

    def wrong(u, *, xp):
        z, slope = right(u, xp)
        return z, lambda dz: change(slope, dz, u, xp)

    return wrong


def no_second_term(u, *, xp):
    t = xp.tanh(u)
    return u * t, lambda dz: dz * t


def second_value(u, *, xp):
    """The pullback forgets that it is handed dz, and uses another point."""
    z, _ = right(u, xp)
    return z, lambda dz: dz * right(dz, xp)[1]


def last_sample(slope, dz, u, xp):
    row = xp.cumulative_sum(xp.ones_like(u), axis=0)
    return dz * xp.where(row == 512, 0.0, slope)


def no_term_of_large_u(u, *, xp):
    return u + 1e-5 * u * u, lambda dz: dz * 1.0


def single_value(u, *, xp):
    z, slope = right(xp.astype(u, xp.float32), xp)
    return xp.astype(z, u.dtype), lambda dz: dz * xp.astype(slope, u.dtype)


def changes_u(u, *, xp):
    slope = right(u, xp)[1]
    u *= xp.tanh(u)
    return u, lambda dz: dz * slope


def changes_dz(u, *, xp):
    z, slope = right(u, xp)

    def pullback(dz):
        dz *= slope
        return dz

    return z, pullback


def overflows(u, *, xp):
    """TanhExp by the book: 0 times infinity for large u."""
    t = xp.tanh(xp.exp(u))
    return u * t, lambda dz: dz * (t + u * (1.0 - t * t) * xp.exp(u))


def steep(u, *, xp):
    """ReLU whose derivative at 0 is that of neither side, nor between them."""
    return (
        xp.maximum(u, 0.0),
        lambda dz: (
            dz * xp.where(u > 0, 1.0, xp.where(u == 0, 1.5 * xp.ones_like(u), xp.zeros_like(u)))
        ),
    )


def swapped(u, *, xp):
    """ReLU whose derivative is the one of the other side."""
    return xp.maximum(u, 0.0), lambda dz: xp.where(u < 0, dz, 0.0 * dz)


def asks(u, *, xp):
    return (u, lambda dz: dz) if xp.sum(u) < 1e9 else (2.0 * u, lambda dz: 2.0 * dz)


GRADIENT = r"the gradient of u\[\d+, \d\], where u is .* must be .*, got "
POINT = r"and its output's gradient \S+, must be \S+ by finite differences, got "
MISTAKES = {
    "sign": (mistake(lambda slope, dz, u, xp: -slope * dz), GRADIENT),
    "factor": (mistake(lambda slope, dz, u, xp: 0.5 * slope * dz), GRADIENT),
    "slight factor": (mistake(lambda slope, dz, u, xp: (1 + 1e-6) * slope * dz), GRADIENT),
    "without dz": (mistake(lambda slope, dz, u, xp: slope + 0.0 * dz), GRADIENT),
    "missing term": (no_second_term, GRADIENT),
    "of dz": (second_value, GRADIENT),
    "negative x": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u < 0, -slope, slope)),
        r"where u is -.* must be .*, got ",
    ),
    "one point": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u == -3, 0.0, slope)),
        rf"with 512 samples, the gradient of \S+ \d\], where u is -3 {POINT}-?0$",
    ),
    "far out": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u > 60, 0.0, slope)),
        rf"where u is 64 {POINT}-?0 \(and \d+ more of 4096 are wrong\)$",
    ),
    "single slope": (
        mistake(lambda slope, dz, u, xp: xp.astype(xp.astype(slope, xp.float32), dz.dtype) * dz),
        GRADIENT,
    ),
    "single value": (single_value, r"isn't a smooth function of u .* in lower precision\?"),
    "dtype": (
        mistake(lambda slope, dz, u, xp: xp.astype(slope * dz, xp.float32)),
        r"the gradient of u must be float64, got \S*float32",
    ),
    "shape": (
        mistake(lambda slope, dz, u, xp: xp.sum(slope * dz)),
        r"the gradient of u must have shape \(512, 8\), got \(\)",
    ),
    "number": (mistake(lambda slope, dz, u, xp: 0.0), r"must be an array of .*, got"),
    "overflow": (overflows, r"where u is 768 .* must be .*, got nan"),
    "beyond a kink": (steep, r"where u is 0 .* must be between .* and .*, .* at a kink, got "),
    "wrong side": (swapped, GRADIENT),
    "in an interval": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(xp.abs(u - 2.71) < 0.01, 0.9, 1.0) * slope),
        rf"where u is 2\.7\d+ {POINT}",
    ),
    "near 0": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(xp.abs(u) < 1e-3, 0.0, slope)),
        rf"where u is -?(0\.00\d+|\d\.\d+e-05) {POINT}-?0",
    ),
    "far below": (
        mistake(lambda slope, dz, u, xp: dz * xp.where(u < -1e4, -slope, slope)),
        rf"where u is -\d{{5}} {POINT}",
    ),
    "term of large u": (no_term_of_large_u, GRADIENT),
    "kink at another place": (
        lambda u, *, xp: (xp.maximum(u, 0.0), lambda dz: dz * xp.where(u > -2e-4, 1.0, 0.0)),
        rf"where u is -\d\S+e-05 {POINT}",
    ),
    "kink's sides": (
        lambda u, *, xp: (xp.abs(u), lambda dz: dz * xp.where(u < 0, 1.0, -1.0)),
        GRADIENT,
    ),
    "last sample": (
        mistake(last_sample),
        r"with 512 samples, the gradient of u\[511, 0\]",
    ),
    "one sample alone": (
        mistake(lambda slope, dz, u, xp: dz * slope * (0.5 if u.shape[0] == 1 else 1.0)),
        "with 1 sample, " + GRADIENT,
    ),
    "two samples alone": (
        mistake(lambda slope, dz, u, xp: dz * slope * (0.5 if u.shape[0] == 2 else 1.0)),
        "with 2 samples, " + GRADIENT,
    ),
    "nowhere finite": (
        lambda u, *, xp: (u + xp.nan, lambda dz: dz),
        "with 512 samples, the value must be finite",
    ),
    "no pullback": (lambda u, *, xp: u, r"ValueError: too many values to unpack"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_in_an_activation_are_found(kind):
    part, message = MISTAKES[kind]
    with pytest.raises(PartError, match=r"^\S+ on numpy in float64: .*" + message):
        check_gradients(part, backends=["numpy"])


@pytest.mark.parametrize("kind", ["sign", "missing term", "negative x", "single slope", "dtype"])
def test_mistakes_are_found_on_every_backend(kind, name):
    part, message = MISTAKES[kind]
    with pytest.raises(PartError, match=rf" on {name} in float64: .*{message}"):
        check_gradients(part, backends=[name])


def test_the_right_one_passes():
    assert check_gradients(mistake(lambda slope, dz, u, xp: slope * dz)).rows


def test_a_mistake_in_float32_alone():
    @mistake
    def part(slope, dz, u, xp):
        return dz * (slope if u.dtype == xp.float64 else -slope)

    with pytest.raises(PartError, match=r" on numpy in float32: .*" + GRADIENT + r"\S+$"):
        check_gradients(part)


def test_a_mistake_in_float32_near_0_alone():
    """Beside derivatives that are a million times as large, further out."""

    def part(u, *, xp):
        sign = -1.0 if u.dtype == xp.float32 else 1.0
        slope = 3.0 * u * u
        return u * u * u, lambda dz: dz * xp.where(xp.abs(u) < 1, sign * slope, slope)

    message = r"in float32: .* must be \S+, as in float64, got "
    with pytest.raises(PartError, match=message):
        check_gradients(part, backends=["numpy"])


@pytest.mark.parametrize("part", [changes_u, changes_dz])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_changed_inputs_are_found(part, library):
    open_backend(library)
    with pytest.raises(PartError, match=rf"on {library} in float64: with .*, it changes an input"):
        check_gradients(part, backends=[library])


def test_what_cannot_be_compiled_is_found():
    open_backend("jax")
    assert check_gradients(asks, backends=["numpy"]).rows
    with pytest.raises(PartError, match=r"asks on jax in float64: with .*, Tracer\w+Error: "):
        check_gradients(asks, backends=["jax"])
