"""Activations: each returns its value and the pullback from dz to du, which share their terms.

Each is called as ``z, pullback = relu(u)`` with a floating-point array `u` of any shape and any
library of the array API; ``pullback(dz)`` returns ``du = dz * f'(u)``. Results have the shape,
dtype and device of `u`, which isn't mutated. ``xp``, the namespace to compute with, is inferred
from `u` if left out. For finite inputs, results are finite and without warnings, unless a slope or
`alpha` above 1 takes them beyond the dtype's largest number.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, overload

from xpnn._core import functions
from xpnn._core.registry import Registry
from xpnn.backends import namespace
from xpnn.errors import ArgumentError, finite, positive, unknown

__all__ = [
    "ACTIVATIONS",
    "ActivationFunction",
    "Check",
    "Pullback",
    "bind",
    "elu",
    "gelu",
    "h_swish",
    "identity",
    "leaky_relu",
    "mish",
    "register",
    "relu",
    "relu6",
    "sigmoid",
    "softplus",
    "swish",
    "tanh",
    "tanhexp",
]

Array = Any
Pullback = Callable[[Array], Array]
ActivationFunction = Callable[..., tuple[Array, Pullback]]
Check = Callable[[str, object], float]

ACTIVATIONS: Registry[ActivationFunction] = Registry("activation")
_checks: dict[str, dict[str, Check]] = {}


@overload
def register(
    function: ActivationFunction, /, *, replace: bool = False, **checks: Check
) -> ActivationFunction: ...
@overload
def register(
    *, replace: bool = False, **checks: Check
) -> Callable[[ActivationFunction], ActivationFunction]: ...
def register(
    function: ActivationFunction | None = None, /, *, replace: bool = False, **checks: Check
) -> Any:
    """Register ``f(u, *, xp, **parameters) -> (z, pullback)`` as an activation under its name.

    Parameters
    ----------
    function
        Computes ``z`` from ``u`` through the namespace ``xp``, elementwise, and returns it with
        a function from ``dz`` (the gradient of the loss with respect to ``z``) to ``du``.
        Parameters have numbers or strings as defaults.
    replace
        Whether to replace another module's activation of the same name.
    **checks
        For a parameter, a function of name and value that returns the value or raises
        `ArgumentError`. Without one, a number must be finite.

    Returns
    -------
    function
        The same, with ``xp`` optional.

    Examples
    --------
    >>> import xpnn
    >>> @xpnn.activations.register
    ... def square(u, *, xp):
    ...     return u * u, lambda dz: 2 * u * dz
    >>> layer = xpnn.Activation("square")
    """
    if function is None:
        return lambda function: register(function, replace=replace, **checks)
    if not (callable(function) and hasattr(function, "__name__")):
        raise ArgumentError(f"an activation must be a function, got {function!r}")

    @functools.wraps(function)
    def activation(
        u: Array, *args: Any, xp: Any = None, **parameters: Any
    ) -> tuple[Array, Pullback]:
        return function(u, *args, xp=namespace(u) if xp is None else xp, **parameters)

    given = inspect.signature(function)
    optional = inspect.Parameter("xp", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Any)
    parameters = [own for own in given.parameters.values() if own.name != "xp"]
    parameters = sorted([*parameters, optional], key=lambda own: own.kind)
    activation.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]

    name = function.__name__
    ACTIVATIONS.add(name, activation, replace=replace)
    numbers = {k: finite for k, v in ACTIVATIONS.parameters(name).items() if not isinstance(v, str)}
    _checks[name] = {**numbers, **checks}
    return activation


def bind(name: str, /, **parameters: Any) -> functools.partial[tuple[Array, Pullback]]:
    """Return the activation called `name` with its parameters checked and set.

    Raises
    ------
    ArgumentError
        If the activation or a parameter is unknown, or a parameter's value isn't allowed.
    """
    ACTIVATIONS.check(name, parameters)
    for key, check in _checks[name].items():
        if key in parameters:
            parameters[key] = check(key, parameters[key])
    return functools.partial(ACTIVATIONS[name], **parameters)


@register
def identity(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``u``: the output of a regression."""
    return u, lambda dz: dz


@register
def relu(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``max(u, 0)``; the derivative at 0 is 0 (Nair and Hinton 2010)."""
    z = xp.maximum(u, 0.0)
    return z, lambda dz: xp.where(z > 0, dz, 0.0)


@register(cap=positive)
def relu6(u: Array, cap: float = 6.0, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``min(max(u, 0), cap)``; the derivative at 0 and at `cap` is 0 (Krizhevsky 2010).

    Parameters
    ----------
    cap
        The largest value, > 0.
    """
    return functions.clip(u, 0.0, cap, xp), lambda dz: xp.where((u > 0) & (u < cap), dz, 0.0)


@register
def leaky_relu(u: Array, negative_slope: float = 0.01, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``u`` where ``u > 0``, else ``negative_slope * u`` (Maas, Hannun and Ng 2013).

    Parameters
    ----------
    negative_slope
        The derivative for u <= 0.
    """
    z = xp.where(u > 0, u, negative_slope * xp.minimum(u, 0.0))
    return z, lambda dz: xp.where(u > 0, dz, negative_slope * dz)


@register(alpha=positive)
def elu(u: Array, alpha: float = 1.0, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``u`` where ``u > 0``, else ``alpha * (exp(u) - 1)`` (Clevert et al. 2016).

    Parameters
    ----------
    alpha
        The derivative at 0, and minus the limit for u to -infinity; > 0.
    """
    negative = alpha * xp.expm1(xp.minimum(u, 0.0))
    z = xp.where(u > 0, u, negative)
    return z, lambda dz: dz * xp.where(u > 0, 1.0, negative + alpha)


@register
def sigmoid(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``1 / (1 + exp(-u))``."""
    z = functions.sigmoid(u, xp)
    return z, lambda dz: dz * z * (1.0 - z)


@register
def tanh(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    """Return the hyperbolic tangent, ``(exp(u) - exp(-u)) / (exp(u) + exp(-u))``."""
    z = xp.tanh(u)
    return z, lambda dz: dz * (1.0 - z * z)


@register
def softplus(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``log(1 + exp(u))`` (Dugas et al. 2001)."""
    z = xp.maximum(u, 0.0) + xp.log1p(xp.exp(-xp.abs(u)))
    return z, lambda dz: dz * functions.sigmoid(u, xp)


@register(beta=finite)
def swish(u: Array, beta: float = 1.0, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``u * sigmoid(beta * u)``, SiLU for beta = 1 (Ramachandran, Zoph and Le 2017).

    Parameters
    ----------
    beta
        How sharply it bends: it is ``u / 2`` for 0, and near ReLU for large ones.
    """
    s = functions.sigmoid(_scaled(u, beta, xp), xp)
    z = u * s

    def pullback(dz: Array) -> Array:
        rest = z * (1.0 - s)
        return dz * (s + (rest if beta == 1.0 else beta * rest))

    return z, pullback


def _scaled(u: Array, factor: float, xp: Any) -> Array:
    """Return ``factor * u``, clipped where sigmoid is constant, so that it can't overflow."""
    if abs(factor) <= 1.0:
        return u if factor == 1.0 else factor * u
    limit = 1000.0 / abs(factor)
    return factor * functions.clip(u, -limit, limit, xp)


@register
def mish(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    r"""Return ``u * tanh(softplus(u))`` (Misra 2019).

    With ``exp(u) = a / b`` the factor is ``a (a + 2b) / (a (a + 2b) + 2b²)``. The larger of a and b
    is 1, the other ``exp(-|u|)``, which can't overflow.
    """
    e = xp.exp(-xp.abs(u))
    # e <= 1: its maximum with a truth value is 1 or e
    a, b = xp.maximum(e, xp.astype(u > 0, e.dtype)), xp.maximum(e, xp.astype(u <= 0, e.dtype))
    numerator = a * (a + 2.0 * b)
    denominator = numerator + 2.0 * b * b
    factor = numerator / denominator

    def pullback(dz: Array) -> Array:
        # sech(softplus(u))² sigmoid(u) = 4 a b² (a + b) / denominator², and e = a b
        slope = b * (4.0 * e * (1.0 + e) / denominator) / denominator
        return dz * (factor + u * slope)

    return u * factor, pullback


@register(n=positive)
def h_swish(u: Array, n: float = 6.0, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``u`` where ``u > n/2``, ``u * (u + n/2) / n`` where ``|u| <= n/2``, else 0.

    ``n = 6`` is the h-swish of MobileNetV3 (Howard et al. 2019): ``u * relu6(u + 3) / 6``. The
    derivative at ``-n/2`` is 0, and at ``n/2`` that of the middle piece, 3/2.

    Parameters
    ----------
    n
        The width of the middle piece, > 0.
    """
    half = 0.5 * n
    inner, above = functions.clip(u, -half, half, xp), u > half
    z = xp.where(above, u, inner * (inner + half) / n)

    def pullback(dz: Array) -> Array:
        slope = xp.where(u > -half, (2.0 * inner + half) / n, 0.0)
        return dz * xp.where(above, 1.0, slope)

    return z, pullback


@register
def tanhexp(u: Array, *, xp: Any) -> tuple[Array, Pullback]:
    """Return ``u * tanh(exp(u))`` (Liu and Di 2020)."""
    # tanh(exp(u)) is 1 in float64 from u = 3 on; for large u, exp would overflow to 0 * inf
    e = xp.exp(xp.minimum(u, 20.0))
    t = xp.tanh(e)
    return u * t, lambda dz: dz * (t + u * (1.0 - t * t) * e)


def _approximation(name: str, value: object) -> Any:
    if value not in ("none", "tanh"):
        raise unknown(name, value, ("none", "tanh"))
    return value


@register(approximate=_approximation)
def gelu(u: Array, approximate: str = "none", *, xp: Any) -> tuple[Array, Pullback]:
    r"""Return ``u * Phi(u)`` with ``Phi`` the normal distribution (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    approximate
        "none", or "tanh" for ``Phi(u) = (1 + tanh(sqrt(2/pi) (u + 0.044715 u³))) / 2``.
    """
    held = functions.clip(u, -100.0, 100.0, xp)
    square = held * held
    if approximate == "tanh":
        scale = math.sqrt(8.0 / math.pi)
        # (1 + tanh(v)) / 2 = sigmoid(2 v), which keeps its digits for u << 0
        phi = functions.sigmoid(scale * held * (1.0 + 0.044715 * square), xp)
        z = u * phi
        slope = scale * (1.0 + 3.0 * 0.044715 * square)
        return z, lambda dz: dz * (phi + held * phi * (1.0 - phi) * slope)
    phi = _normal_cdf(held, square, xp)
    density = math.sqrt(0.5 / math.pi)
    return u * phi, lambda dz: dz * (phi + density * held * xp.exp(-0.5 * square))


# Chebyshev fit (error 2e-16) of log(erfc(a) exp(a²) / s), s = 1 / (1 + a/2), in powers of 2s - 1
_LOG_ERFCX = (
    -0.6717940840566922, 0.6726432239776567, 0.047343306841863754,
    -0.046895610231160824, -0.00987268936410846, 0.00882493855611383,
    0.0017589335075480397, -0.0023458124784660516, -0.00014624628859718252,
    0.0006736785371369921, -9.373894209180262e-05, -0.00017430116360991256,
    7.141808767204543e-05, 3.1737328155349395e-05, -3.023780825572967e-05,
    1.6080205095439494e-07, 8.662494482986981e-06, -2.994294118363313e-06,
    -1.4094127307024207e-06, 1.3137199073509803e-06, -4.1484920834124593e-08,
    -3.086559820402206e-07, 7.746001345360312e-08, 3.675878538183882e-08,
    -1.2776506237493277e-08, -1.1141466421901909e-09,
)  # fmt: skip


def _normal_cdf(u: Array, square: Array, xp: Any) -> Array:
    s = 1.0 / (1.0 + math.sqrt(0.125) * xp.abs(u))
    t = 2.0 * s - 1.0
    polynomial = _LOG_ERFCX[-1] * t
    for coefficient in _LOG_ERFCX[-2:0:-1]:
        polynomial = (polynomial + coefficient) * t
    tail = 0.5 * s * xp.exp(polynomial + _LOG_ERFCX[0] - 0.5 * square)
    return xp.where(u > 0, 1.0 - tail, tail)
