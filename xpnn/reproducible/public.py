"""`namespace`: the way in for everybody who computes with reproducible arrays."""

from __future__ import annotations

import functools
from typing import Any

import array_api_compat

from xpnn.reproducible.array import Array
from xpnn.reproducible.namespace import Precision
from xpnn.reproducible.standard import StandardNamespace


def namespace(
    library: Any = "numpy", *, device: str | None = None, precision: Precision = "training"
) -> StandardNamespace:
    """Return a namespace of the array API that gives the same bits on every library and device.

    Parameters
    ----------
    library
        The library that computes: "numpy", "torch", "jax", "cupy" or "strict"; or one of its
        arrays, whose device is then the namespace's; or an array API namespace, such as
        ``array_api_compat.torch``. For the last, the caller sets what the library needs, such as
        ``jax.enable_x64(True)`` around all calls; otherwise every function does that for itself.
    device
        "cpu", "cuda:0", ...: where arrays are made; the library's default if None.
    precision
        "training" or "full": how exact `matmul` and `sum` are; see `Namespace`.

    Returns
    -------
    StandardNamespace
        The same object for the same arguments.

    Raises
    ------
    ValueError
        If the library or the precision is unknown, or a device is given with an array or a
        namespace, which have their own.
    RuntimeError
        If the library isn't installed, or has no such device.
    TypeError
        If a given namespace has no float64 at the moment.

    Examples
    --------
    >>> from xpnn import reproducible
    >>> xp = reproducible.namespace("numpy")
    >>> float(xp.sin(xp.asarray(1e300)))
    -0.8178819121159085
    """
    if isinstance(library, str):
        return _opened(library, device, precision)
    if device is not None:
        raise ValueError(f"device is for a library given by its name, got {device!r}")
    if isinstance(library, Array):
        library = library.raw
    if array_api_compat.is_array_api_obj(library):
        # at run time only: the backends are built on this package
        from xpnn.backends.lookup import backend_of

        backend = backend_of(library)
        if backend is None:
            return _opened("numpy", None, precision)
        return _opened(backend.name, backend.options()["device"], precision)
    return _of_module(library, precision)


@functools.cache
def _opened(library: str, device: str | None, precision: Precision) -> StandardNamespace:
    from xpnn.backends.lookup import get_backend

    backend = get_backend(library, device=device, dtype="float64")
    with backend.scope():
        return StandardNamespace(
            backend.xp, precision=precision, device=backend.device, backend=backend
        )


@functools.cache
def _of_module(xp: Any, precision: Precision) -> StandardNamespace:
    return StandardNamespace(xp, precision=precision)
