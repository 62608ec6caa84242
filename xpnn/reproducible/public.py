"""`namespace`: the way in for everybody who computes with reproducible arrays."""

from __future__ import annotations

import copyreg
import functools
from typing import Any

import array_api_compat
import numpy as np

from xpnn.errors import ArgumentError, unknown
from xpnn.reproducible.array import Array
from xpnn.reproducible.namespace import PRECISIONS, Precision
from xpnn.reproducible.standard import StandardNamespace


def namespace(
    library: Any = "numpy", *, device: str | None = None, precision: Precision = "training"
) -> StandardNamespace:
    """Return a namespace of the array API that gives the same bits on every library and device.

    Parameters
    ----------
    library
        The library that computes: "numpy", "torch", "jax", "cupy" or "strict"; or its module, or
        its array API namespace, such as ``array_api_compat.torch``; or one of its arrays, whose
        device is then the namespace's.
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
    ArgumentError
        If the library or the precision is unknown, or a device is given with an array, which has
        its own.
    BackendError
        If the library isn't installed, or has no such device.

    Examples
    --------
    >>> from xpnn import reproducible
    >>> xp = reproducible.namespace("numpy")
    >>> float(xp.sin(xp.asarray(1e300)))
    -0.8178819121159085
    """
    # at run time only: the backends are built on this package
    from xpnn.backends.lookup import BACKENDS, backend_of

    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if isinstance(library, Array):
        library = library.raw
    if array_api_compat.is_array_api_obj(library):
        if device is not None:
            raise ArgumentError(
                f"device must be None with an array, which has its own, got {device!r}"
            )
        if isinstance(library, (np.ndarray, np.generic)):
            return _opened("numpy", None, precision)
        backend = backend_of(library)
        if backend is None:
            kind, device = type(library).__name__, array_api_compat.device(library)
            raise ArgumentError(f"no library here has a {kind} on the device {device}")
        options = backend.options()
        return _opened(options["backend"], options["device"], precision)
    name = getattr(library, "__name__", library)
    for own, cls in BACKENDS.items():
        if name in (cls.module, cls.namespace):
            name = own
    if not isinstance(name, str):
        raise ArgumentError(
            f"library must be one of {', '.join(BACKENDS)}, or its module, its array API "
            f"namespace, or one of its arrays, got {library!r}"
        )
    if not isinstance(device, str | None):
        raise ArgumentError(f"device must be a name such as 'cuda:0', got {device!r}")
    return _opened(name, device, precision)


@functools.cache
def _opened(library: str, device: str | None, precision: Precision) -> StandardNamespace:
    from xpnn.backends.lookup import get_backend

    backend = get_backend(library, device=device, dtype="float64")
    with backend.scope():
        return StandardNamespace(backend, precision=precision)


def _pickled(xp: StandardNamespace) -> tuple[Any, ...]:
    options = xp._backend.options()
    return _opened, (options["backend"], options["device"], xp.precision)


copyreg.pickle(StandardNamespace, _pickled)
