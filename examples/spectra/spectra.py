"""Functions of measured spectra, for the arrays of any library.

A spectrum is the last axis of an array; the axes before it are those of a stack of spectra.
"""

import array_api_compat

__all__ = ["baseline", "centroid", "clipped", "distance", "normalized", "peaks", "smoothed"]


def _namespace(*arrays):
    return array_api_compat.array_namespace(*arrays)


def _like(value, x):
    """Return a number as an array with the dtype and on the device of `x`."""
    xp = _namespace(x)
    return xp.asarray(value, dtype=x.dtype, device=array_api_compat.device(x))


def normalized(spectra):
    """Return spectra whose largest value is 1; a spectrum of zeros stays what it is.

    Parameters
    ----------
    spectra
        An array of floats.
    """
    xp = _namespace(spectra)
    largest = xp.max(xp.abs(spectra), axis=-1, keepdims=True)
    return spectra / xp.where(largest > 0, largest, _like(1.0, spectra))


def clipped(spectra, least, most):
    """Return spectra in which what is below `least` or above `most` is these."""
    xp = _namespace(spectra)
    return xp.minimum(xp.maximum(spectra, _like(least, spectra)), _like(most, spectra))


def smoothed(spectra, width):
    """Return the means of `width` neighbours; at the ends of fewer.

    Parameters
    ----------
    spectra
        An array of floats.
    width
        An odd number of neighbours.
    """
    if width < 1 or not width % 2:
        raise ValueError(f"width must be odd and positive, got {width}")
    xp = _namespace(spectra)
    n, half = spectra.shape[-1], width // 2
    place = xp.arange(n, device=array_api_compat.device(spectra))
    near = xp.abs(place[:, None] - place[None, :]) <= half
    weights = xp.astype(near, spectra.dtype)
    return (spectra @ weights) / xp.sum(weights, axis=0)


def baseline(spectra):
    """Return the straight lines from the first to the last value of the spectra."""
    xp = _namespace(spectra)
    n = spectra.shape[-1]
    device = array_api_compat.device(spectra)
    share = xp.astype(xp.arange(n, device=device), spectra.dtype) / (n - 1)
    first, last = spectra[..., :1], spectra[..., -1:]
    return first + (last - first) * share


def centroid(spectra, places):
    """Return the mean of `places`, weighted with the values of the spectra."""
    xp = _namespace(spectra, places)
    return xp.sum(spectra * places, axis=-1) / xp.sum(spectra, axis=-1)


def peaks(spectra, height):
    """Return which values are above `height` and above both of their neighbours."""
    xp = _namespace(spectra)
    middle = spectra[..., 1:-1]
    found = (middle > spectra[..., :-2]) & (middle > spectra[..., 2:])
    found = found & (middle > _like(height, spectra))
    end = xp.zeros_like(found[..., :1])
    return xp.concat([end, found, end], axis=-1)


def distance(a, b):
    """Return the distance of spectra as vectors, each scaled to the length 1."""
    xp = _namespace(a, b)
    a, b = (x / xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True)) for x in (a, b))
    return xp.sqrt(xp.sum((a - b) ** 2, axis=-1))
