"""Linear algebra, made of elementwise operations in a fixed order.

Factorizations eliminate column by column, with one correctly rounded operation after the other, in
float64 also for float32, whose results are rounded once at the end. So no order of a sum is left to
a library. All functions take stacks of matrices.

Numbers above 2^1008 are first multiplied by 2^-16, so that sums of them don't overflow, with all
numbers of their column, or of the matrix for eigenvalues and singular values. Among these, numbers
below 2^-952 lose digits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from xpnn.reproducible import arguments, scaled
from xpnn.reproducible.exact import power_above
from xpnn.reproducible.integers import folded

Array = Any

_REFUSED = dict.fromkeys(
    ("eig", "eigvals"), "eigenvalues of other than symmetric matrices are complex"
)
# Jacobi's method is quadratic in the end, so some ten sweeps are enough for any matrix
_SWEEPS = 40
# squares of smaller numbers lose digits
_LEAST = 2.0**-480


class QR(NamedTuple):
    """What `Linalg.qr` returns."""

    Q: Array
    R: Array


class Slogdet(NamedTuple):
    """What `Linalg.slogdet` returns."""

    sign: Array
    logabsdet: Array


class Eigh(NamedTuple):
    """What `Linalg.eigh` returns."""

    eigenvalues: Array
    eigenvectors: Array


class SVD(NamedTuple):
    """What `Linalg.svd` returns."""

    U: Array
    S: Array
    Vh: Array


class Linalg:
    """The extension `linalg` of a namespace.

    Parameters
    ----------
    xp
        The namespace.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        for name in ("matmul", "matrix_transpose", "tensordot", "vecdot"):
            setattr(self, name, getattr(xp, name))

    def __getattr__(self, name: str) -> Any:
        reason = _REFUSED.get(name, "there is no such function")
        raise AttributeError(f"linalg.{name} isn't available reproducibly: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._xp, "linalg")

    # Arguments

    def _matrices(self, x: Array, function: str, *, square: bool = False) -> Array:
        """Return matrices in float64; raise if they aren't matrices of floats."""
        xp = self._xp
        self._check_axes(x, function)
        if x.dtype not in xp._formats:
            raise TypeError(f"{function} takes float32 and float64, not {x.dtype}")
        if square and x.shape[-1] != x.shape[-2]:
            raise ValueError(f"{function} takes square matrices, not {x.shape}")
        return xp.astype(x, xp.float64, copy=False)

    def _check_axes(self, x: Array, function: str) -> None:
        if x.ndim < 2:
            raise ValueError(f"{function} takes matrices, not an array of {x.ndim} axes")

    def _lowered(self, x: Array, axis: Any) -> tuple[Array, Array]:
        """Return `x` with its large numbers, and all along `axis` of them, divided by 2^16.

        Also returns where that was done.
        """
        xp = self._xp
        if not x.size:
            return x, xp.astype(xp.sum(x, axis=axis, keepdims=True), xp.bool)
        limit = 2.0**1008 if x.dtype == xp.float64 else 2.0**112
        large = xp.max(xp.abs(x), axis=axis, keepdims=True) > limit
        return xp.where(large, x * 2.0**-16, x), large

    def _raised(self, x: Array, large: Array) -> Array:
        return self._xp.where(large, x * 2.0**16, x)

    def _back(self, x: Array, like: Array) -> Array:
        return self._xp.astype(x, like.dtype, copy=False)

    def _total(self, x: Array, axis: int) -> Array:
        """Return the sum along an axis, added in a fixed tree."""
        xp = self._xp
        if not x.shape[axis]:
            return xp.sum(x, axis=axis)
        raw = folded(x.raw, axis, lambda a, b: a + b, xp._raw)
        return xp.squeeze(xp.wrap_canonical(raw), axis=axis)

    # Norms and products

    def outer(self, a: Array, b: Array, /) -> Array:
        """Return all products of two vectors' elements."""
        if a.ndim != 1 or b.ndim != 1:
            raise ValueError(f"outer takes two vectors, not {a.shape} and {b.shape}")
        return self._xp.multiply(a[:, None], b[None, :])

    def cross(self, a: Array, b: Array, /, *, axis: int = -1) -> Array:
        """Return the cross products of vectors of three elements along `axis`."""
        xp = self._xp
        axis = arguments.axis(axis, min(a.ndim, b.ndim)) - min(a.ndim, b.ndim)
        if a.shape[axis] != 3 or b.shape[axis] != 3:
            raise ValueError(f"cross takes vectors of 3, not {a.shape} and {b.shape}")
        a, b = xp.broadcast_arrays(a, b)
        dtype = xp.result_type(a, b)
        if dtype in xp._formats:  # two float32 products may nearly cancel
            a, b = (xp.astype(x, xp.float64, copy=False) for x in (a, b))
        a, b = xp.moveaxis(a, axis, -1), xp.moveaxis(b, axis, -1)
        result = self._crossed(a, b)
        if dtype in xp._formats and not bool(xp.all(xp.isfinite(result))):
            # a product of two elements may have overflowed
            less = self._crossed(a * 2.0**-520, b * 2.0**-520) * 2.0**520 * 2.0**520
            result = xp.where(xp.isfinite(result), result, less)
        return xp.moveaxis(xp.astype(result, dtype, copy=False), -1, axis)

    def _crossed(self, a: Array, b: Array) -> Array:
        pairs = ((1, 2), (2, 0), (0, 1))
        parts = [a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in pairs]
        return self._xp.stack(parts, axis=-1)

    def diagonal(self, x: Array, /, *, offset: int = 0) -> Array:
        """Return the diagonals of matrices."""
        xp = self._xp
        self._check_axes(x, "diagonal")
        (rows, columns), offset = x.shape[-2:], arguments.whole("offset", offset)
        row = np.arange(max(0, -offset), max(0, min(rows, columns - offset)), dtype=np.int64)
        flat = xp.reshape(x, (*x.shape[:-2], rows * columns))
        places = xp._whole_array(xp._on_device(row * columns + row + offset, x.device))
        return xp._taken(flat, places, x.ndim - 2)

    def trace(self, x: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
        """Return the sums of the diagonals of matrices."""
        self._check_axes(x, "trace")
        return self._xp.sum(self.diagonal(x, offset=offset), axis=-1, dtype=dtype)

    def vector_norm(
        self,
        x: Array,
        /,
        *,
        axis: Any = None,
        keepdims: bool = False,
        ord: Any = 2,  # noqa: A002
    ) -> Array:
        """Return the norm of vectors along `axis`, or of all elements."""
        xp = self._xp
        if x.dtype not in xp._formats:
            raise TypeError(f"vector_norm takes float32 and float64, not {x.dtype}")
        if not isinstance(ord, int | float | np.integer | np.floating):
            raise ValueError(f"ord is a number, not {ord!r}")
        axes, shape = xp._axes(x, axis), x.shape
        wide = xp.abs(xp.astype(x, xp.float64, copy=False))
        wide = xp.wrap_canonical(xp._last(wide.raw, axes))
        if not wide.shape[-1]:
            result = xp.sum(wide, axis=-1)
        elif ord == 2:
            result = self._euclidean(wide)
        elif ord in (math.inf, -math.inf):
            result = xp.max(wide, axis=-1) if ord > 0 else xp.min(wide, axis=-1)
        elif ord == 0:
            result = xp.astype(xp.count_nonzero(wide, axis=-1), xp.float64)
        elif ord == 1:
            result = self._total(wide, -1)
        else:
            result = self._general(wide, float(ord))
        result = xp.wrap_canonical(xp._reduced(result.raw, axes, keepdims, shape))
        return self._back(result, x)

    def _general(self, x: Array, order: float) -> Array:
        """Return the norm of any other order along the last axis, of numbers from 0 on."""
        xp = self._xp
        total = self._total(xp.pow(x, order), -1)
        plain = xp.pow(total, 1.0 / order)
        # what counts most; relative to it, all powers are from 0 to 1
        most = (xp.max if order > 0.0 else xp.min)(x, axis=-1)
        outside = (total < 2.0**-900) | (total > 2.0**900)
        outside = outside & (most > 0.0) & xp.isfinite(most)
        unit = xp.where(outside, most, 1.0)
        total = self._total(xp.pow(x / unit[..., None], order), -1)
        return xp.where(outside, unit * xp.pow(total, 1.0 / order), plain)

    def _euclidean(self, x: Array) -> Array:
        """Return the root of the sum of squares along the last axis, of numbers from 0 on."""
        xp = self._xp
        largest = xp.max(x, axis=-1, keepdims=True)
        large, small = largest > 2.0**450, largest < 2.0**-400
        one = xp.ones_like(largest)
        scale = xp.where(large, 2.0**-600, xp.where(small, 2.0**600, one))
        back = xp.where(large, 2.0**600, xp.where(small, 2.0**-600, one))
        scaled = x * scale
        return xp.sqrt(self._total(scaled * scaled, -1)) * back[..., 0]

    def matrix_norm(
        self,
        x: Array,
        /,
        *,
        keepdims: bool = False,
        ord: Any = "fro",  # noqa: A002
    ) -> Array:
        """Return the norm of matrices."""
        xp = self._xp
        wide = self._matrices(x, "matrix_norm")
        if ord not in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
            raise ValueError(
                f"ord is 'fro', 'nuc', 1, 2, inf or one of these negative, not {ord!r}"
            )
        if ord == "fro" or 0 in x.shape[-2:]:  # any norm of no elements is 0
            result = self.vector_norm(wide, axis=(-2, -1))
        elif ord in (2, -2, "nuc"):
            values = self.svdvals(wide)
            if ord == "nuc":
                result = self._total(values, -1)
            else:
                result = xp.max(values, axis=-1) if ord == 2 else xp.min(values, axis=-1)
        else:
            sums = self._total(xp.abs(wide), -2 if ord in (1, -1) else -1)
            result = xp.max(sums, axis=-1) if ord > 0 else xp.min(sums, axis=-1)
        return self._back(result[..., None, None] if keepdims else result, x)

    def matrix_power(self, x: Array, n: int, /) -> Array:
        """Return matrices to a whole power, by products of squares."""
        xp = self._xp
        wide = self._matrices(x, "matrix_power", square=True)
        n = arguments.whole("n", n)
        if n < 0:
            wide, n = self.inv(wide), -n
        result = xp.broadcast_to(xp.eye(x.shape[-1], dtype=xp.float64, device=x.device), x.shape)
        while n:
            if n & 1:
                result = xp.matmul(result, wide)
            n >>= 1
            if n:
                wide = xp.matmul(wide, wide)
        return self._back(result, x)

    # Factorizations

    def cholesky(self, x: Array, /, *, upper: bool = False) -> Array:
        """Return L with x = L L^T, or its transpose; only the lower triangle of `x` counts.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a matrix isn't positive definite.
        """
        xp = self._xp
        rest = self._matrices(x, "cholesky", square=True)
        columns, smallest = [], []
        for k in range(x.shape[-1]):
            pivot = xp.sqrt(rest[..., :1, 0])
            smallest.append(pivot[..., 0])
            below = rest[..., 1:, 0] / pivot
            above = xp.zeros((*x.shape[:-2], k), dtype=xp.float64, device=x.device)
            columns.append(xp.concat([above, pivot, below], axis=-1))
            rest = rest[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
        if not columns:
            return xp.copy(x)
        if not bool(xp.all(xp.stack(smallest) > 0.0)):
            raise np.linalg.LinAlgError("a matrix isn't positive definite")
        factor = xp.stack(columns, axis=-2 if upper else -1)
        return self._back(factor, x)

    def _eliminated(self, a: Array) -> tuple[list[Array], Array, Array]:
        """Eliminate with the largest pivots of each column.

        Returns the rows from their pivot on, the pivots, and the sign of the permutation.
        """
        xp = self._xp
        rows, pivots = [], []
        size = a.shape[-2]
        sign = xp.ones(a.shape[:-2], dtype=xp.float64, device=a.device)
        for k in range(size):
            length = size - k
            place = xp.argmax(xp.abs(a[..., :, 0]), axis=-1)
            order = xp._whole_array(xp._iota(length, a.device))
            chosen = place[..., None]
            first = xp.where(order == chosen, 0, order)
            order = xp.where(order == 0, chosen, first)
            a = xp._taken_along(a, order[..., None], -2)
            sign = xp.where(place == 0, sign, -sign)
            row = a[..., 0, :]
            pivot = row[..., :1]
            rows.append(row)
            pivots.append(pivot[..., 0])
            factors = a[..., 1:, 0] / xp.where(pivot == 0.0, 1.0, pivot)
            a = a[..., 1:, 1:] - factors[..., :, None] * row[..., None, 1:]
        stack = (
            xp.stack(pivots, axis=-1)
            if pivots
            else xp.zeros((*sign.shape, 0), dtype=xp.float64, device=sign.device)
        )
        return rows, stack, sign

    def slogdet(self, x: Array, /) -> Slogdet:
        """Return the sign of the determinants and the logarithm of their magnitudes."""
        xp = self._xp
        wide = self._matrices(x, "slogdet", square=True)
        wide, large = self._lowered(wide, -2)
        _, pivots, sign = self._eliminated(wide)
        if x.shape[-1]:
            sign = sign * xp.prod(xp.sign(pivots), axis=-1)
        size = xp.abs(pivots)
        whole = self._raised(size, large[..., 0, :])
        more = xp.where(large[..., 0, :], 16.0 * math.log(2.0), xp.zeros_like(size))
        inside = xp.isfinite(whole)
        logarithms = xp.where(inside, xp.log(whole), xp.log(size) + more)
        return Slogdet(self._back(sign, x), self._back(self._total(logarithms, -1), x))

    def det(self, x: Array, /) -> Array:
        """Return the determinants, as products of pivots."""
        xp = self._xp
        wide, large = self._lowered(self._matrices(x, "det", square=True), -2)
        _, pivots, sign = self._eliminated(wide)
        if not x.shape[-1]:
            return self._back(sign, x)
        factors = self._raised(xp.ones_like(pivots), large[..., 0, :])
        first, second = (scaled.paired(folded, one.raw, -1, xp._raw) for one in (pivots, factors))
        raw = scaled.plain(scaled.times(first, second, xp._raw), xp._raw)
        return self._back(sign * xp.wrap_canonical(raw[..., 0]), x)

    def solve(self, a: Array, b: Array, /) -> Array:
        """Return x with a x = b, by elimination with pivots.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a matrix is singular.
        """
        xp = self._xp
        dtype = xp.result_type(a, b)
        wide = self._matrices(a, "solve", square=True)
        if not b.ndim:
            raise ValueError("solve takes vectors or matrices b, not an array of 0 axes")
        vector = b.ndim == 1
        right = xp.astype(b[:, None] if vector else b, xp.float64, copy=False)
        if right.shape[-2] != wide.shape[-1]:
            raise ValueError(f"solve: {a.shape} and {b.shape} don't fit")
        shape = np.broadcast_shapes(wide.shape[:-2], right.shape[:-2])
        wide = xp.broadcast_to(wide, (*shape, *wide.shape[-2:]))
        right = xp.broadcast_to(right, (*shape, *right.shape[-2:]))
        size = wide.shape[-1]
        if not size:
            return xp.astype(right[..., 0] if vector else right, dtype)
        (wide, large), (right, most) = self._lowered(wide, -2), self._lowered(right, -2)
        rows, pivots, _ = self._eliminated(xp.concat([wide, right], axis=-1))
        if not bool(xp.all(pivots != 0.0)):
            raise np.linalg.LinAlgError("a matrix is singular")
        # rows[k] begins with column k; what is known is taken away from all rows above at once
        sides = xp.stack([row[..., size - k :] for k, row in enumerate(rows)], axis=-2)
        found: list[Array] = []
        for k in reversed(range(size)):
            value = sides[..., k, :] / pivots[..., k : k + 1]
            found.append(value)
            if k:
                column = xp.stack([rows[i][..., k - i] for i in range(k)], axis=-1)
                sides = sides[..., :k, :] - column[..., :, None] * value[..., None, :]
        # the numbers of a column divided by 2^16 belong to an unknown that is multiplied by 2^16
        large = xp.matrix_transpose(large)
        result = xp.stack(found[::-1], axis=-2)
        result = xp.where(large & ~most, result * 2.0**-16, result)
        result = xp.where(most & ~large, result * 2.0**16, result)
        return xp.astype(result[..., 0] if vector else result, dtype, copy=False)

    def inv(self, x: Array, /) -> Array:
        """Return the inverses of matrices; see `solve`."""
        xp = self._xp
        wide = self._matrices(x, "inv", square=True)
        eye = xp.broadcast_to(xp.eye(x.shape[-1], dtype=xp.float64, device=x.device), x.shape)
        return self._back(self.solve(wide, eye), x)

    def qr(self, x: Array, /, *, mode: str = "reduced") -> QR:
        """Return orthogonal Q and upper triangular R with x = Q R, by Householder's reflections."""
        xp = self._xp
        if mode not in ("reduced", "complete"):
            raise ValueError(f"mode is 'reduced' or 'complete', not {mode!r}")
        a, large = self._lowered(self._matrices(x, "qr"), -2)
        rows, columns = x.shape[-2:]
        done, reflections = [], []
        for k in range(min(rows, columns)):
            v, factor = self._reflection(a[..., :, 0])
            reflections.append((v, factor))
            a = self._reflected(a, v, factor)
            above = xp.zeros((*x.shape[:-2], k), dtype=xp.float64, device=x.device)
            done.append(xp.concat([above, a[..., 0, :]], axis=-1))
            a = a[..., 1:, 1:]
        height = rows if mode == "complete" else min(rows, columns)
        zeros = xp.zeros((*x.shape[:-2], columns), dtype=xp.float64, device=x.device)
        done += [zeros] * (height - len(done))
        r = (
            xp.stack(done, axis=-2)
            if done
            else xp.zeros((*x.shape[:-2], height, columns), dtype=xp.float64, device=x.device)
        )
        q = xp.broadcast_to(
            xp.eye(rows, height, dtype=xp.float64, device=x.device), (*x.shape[:-2], rows, height)
        )
        for k, (v, factor) in reversed(list(enumerate(reflections))):
            lower = self._reflected(q[..., k:, :], v, factor)
            q = xp.concat([q[..., :k, :], lower], axis=-2)
        return QR(self._back(q, x), self._back(self._raised(xp.triu(r), large), x))

    def _reflection(self, x: Array) -> tuple[Array, Array]:
        """Return v and 2 / v^T v of the reflection that leaves only the first element of x."""
        xp = self._xp
        norm = self._euclidean(xp.abs(x))
        first = x[..., 0]
        # away from x, so that nothing cancels
        head = xp.where(first < 0.0, first - norm, first + norm)
        zero = head == 0.0
        # v is divided by its first element, so that its squares neither over- nor underflow
        tail = x[..., 1:] / xp.where(zero, 1.0, head)[..., None]
        v = xp.concat([xp.ones_like(head)[..., None], tail], axis=-1)
        square = self._total(v * v, -1)
        return v, xp.where(zero, 0.0, 2.0 / square)

    def _reflected(self, a: Array, v: Array, factor: Array) -> Array:
        sums = self._total(v[..., :, None] * a, -2) * factor[..., None]
        return a - v[..., :, None] * sums[..., None, :]

    # Eigenvalues and singular values

    def svd(self, x: Array, /, *, full_matrices: bool = True) -> SVD:
        """Return U, S and V^T with x = U diag(S) V^T, the singular values from the largest on.

        Jacobi's method on one side (Hestenes 1958): pairs of columns are turned until all are
        orthogonal. Their norms are then the singular values. In each step of a sweep all columns
        are paired, by a tournament, so that the pairs can be turned at once. Synchronises, to see
        when the columns are orthogonal. A singular value below 2^-480 times the largest element
        of a matrix may become 0.

        Raises
        ------
        numpy.linalg.LinAlgError
            If an element isn't finite.
        """
        xp = self._xp
        wide = self._matrices(x, "svd")
        rows, columns = x.shape[-2:]
        if rows < columns:
            found = self.svd(xp.matrix_transpose(x), full_matrices=full_matrices)
            return SVD(xp.matrix_transpose(found.Vh), found.S, xp.matrix_transpose(found.U))
        self._check_finite(wide)
        wide, large = self._lowered(wide, (-2, -1))
        # x = Q R first, so that what is turned is square; then all is scaled, so that no square
        # over- or underflows
        q, r = self.qr(wide, mode="complete" if full_matrices else "reduced")
        u, values, v = self._orthogonalized(r[..., :columns, :])
        if full_matrices and rows > columns:
            eye = xp.broadcast_to(
                xp.eye(rows - columns, dtype=xp.float64, device=x.device),
                (*x.shape[:-2], rows - columns, rows - columns),
            )
            side = xp.zeros(
                (*x.shape[:-2], columns, rows - columns), dtype=xp.float64, device=x.device
            )
            below = xp.matrix_transpose(side)
            u = xp.concat(
                [xp.concat([u, side], axis=-1), xp.concat([below, eye], axis=-1)], axis=-2
            )
        product = self._product(q, u)
        values = self._raised(values, large[..., 0])
        return SVD(
            self._back(product, x), self._back(values, x), self._back(xp.matrix_transpose(v), x)
        )

    def _check_finite(self, x: Array) -> None:
        if not bool(self._xp.all(self._xp.isfinite(x))):
            raise np.linalg.LinAlgError("a matrix has elements that aren't finite")

    def _product(self, a: Array, b: Array) -> Array:
        """Return a @ b, with every sum added in a fixed tree, as near as float64 allows."""
        if not a.shape[-1]:
            return self._xp.matmul(a, b)
        return self._total(a[..., :, :, None] * b[..., None, :, :], -2)

    def _orthogonalized(self, a: Array) -> tuple[Array, Array, Array]:
        """Return U, the singular values and V of square matrices."""
        xp = self._xp
        size = a.shape[-1]
        v = xp.broadcast_to(xp.eye(size, dtype=xp.float64, device=a.device), a.shape)
        if not size:
            return (
                v,
                a[..., 0, :]
                if a.shape[-2]
                else xp.zeros(a.shape[:-1], dtype=xp.float64, device=a.device),
                v,
            )
        largest = xp.max(xp.abs(a), axis=(-2, -1), keepdims=True)
        scale = xp.where(largest > 2.0**300, 2.0**-600, xp.ones_like(largest))
        scale = xp.where(largest < 2.0**-300, 2.0**500, scale)
        scale = xp.where(largest < 2.0**-900, 2.0**700, scale)
        # then the largest is from 1/2 to 1
        least = xp.wrap_canonical(power_above((largest * scale).raw, xp._raw))
        scale = scale / xp.where(least > 0.0, least, 1.0)
        both = xp.concat([a * scale, v], axis=-2)
        for _ in range(_SWEEPS):
            turned = False
            for left, right in _tournament(size):
                both, once = self._turned(both, left, right)
                turned = turned or once
            if not turned:
                break
        a, v = both[..., :size, :], both[..., size:, :]
        values = xp.sqrt(self._total(a * a, -2))
        # of a smaller one, the column of U would have lost digits
        values = xp.where(values < _LEAST, 0.0, values)
        order = xp.argsort(values, axis=-1, descending=True)
        values = xp._taken_along(values, order, -1)
        a, v = (xp._taken_along(m, order[..., None, :], -1) for m in (a, v))
        zero = values == 0.0
        u = a / xp.where(zero, 1.0, values)[..., None, :]
        if bool(xp.any(zero)):
            u = self._completed(u, zero)
        return u, values / scale[..., 0], v

    def _turned(self, both: Array, left: list[int], right: list[int]) -> tuple[Array, bool]:
        """Make pairs of columns orthogonal; return whether one was not."""
        xp = self._xp
        size = both.shape[-1]
        first, second = (
            xp._taken(both, xp._whole_array(xp._on_device(np.array(k, np.int64), both.device)),
                      both.ndim - 1)
            for k in (left, right)
        )  # fmt: skip
        p, q = first[..., :size, :], second[..., :size, :]
        alpha, beta, gamma = (self._total(m, -2) for m in (p * p, q * q, p * q))
        bound = xp.sqrt(alpha) * xp.sqrt(beta) * 2.0**-52
        # those that count as zero aren't turned, because their norms aren't known well enough
        wrong = (xp.abs(gamma) > bound) & (alpha >= _LEAST**2) & (beta >= _LEAST**2)
        if not bool(xp.any(wrong)):
            return both, False
        safe = xp.where(wrong, gamma, 1.0)
        zeta = (beta - alpha) / (safe * 2.0)
        # the smaller of the two angles; the square of a large zeta would be infinite
        far = xp.abs(zeta)
        t = 1.0 / (far + xp.where(far > 2.0**500, far, xp.sqrt(zeta * zeta + 1.0)))
        t = xp.where(zeta < 0.0, -t, t)
        c = 1.0 / xp.sqrt(t * t + 1.0)
        s = c * t
        c, s = xp.where(wrong, c, 1.0)[..., None, :], xp.where(wrong, s, 0.0)[..., None, :]
        places = [*left, *right]
        others = [k for k in range(size) if k not in places]
        rest = xp._whole_array(xp._on_device(np.array(others, np.int64), both.device))
        parts = [c * first - s * second, s * first + c * second]
        if others:
            parts.append(xp._taken(both, rest, both.ndim - 1))
        back = np.argsort(np.array([*places, *others], np.int64), kind="stable")
        joined = xp.concat(parts, axis=-1)
        return xp._taken(joined, xp._whole_array(xp._on_device(back, both.device)),
                         both.ndim - 1), True  # fmt: skip

    def _completed(self, u: Array, zero: Array) -> Array:
        """Return orthogonal columns in place of those that are zero, the last ones.

        Q of the matrix has the other columns, up to their sign.
        """
        xp = self._xp
        q = self.qr(xp.where(zero[..., None, :], 0.0, u)).Q
        return xp.where(zero[..., None, :], q, u)

    def svdvals(self, x: Array, /) -> Array:
        """Return the singular values, from the largest on; see `svd`."""
        return self.svd(x, full_matrices=False).S

    def eigh(self, x: Array, /) -> Eigh:
        """Return eigenvalues, from the least on, and eigenvectors; only the lower triangle counts.

        A multiple of the identity that makes all eigenvalues positive is added, so that the
        eigenvectors are the singular vectors of `svd`, and the eigenvalues are v^T x v. The error
        is some 2^-52 of the norm of the matrix.

        Raises
        ------
        numpy.linalg.LinAlgError
            If an element isn't finite.
        """
        xp = self._xp
        wide = self._matrices(x, "eigh", square=True)
        lower = xp.tril(wide)
        wide = lower + xp.matrix_transpose(xp.tril(wide, k=-1))
        size = x.shape[-1]
        if not size:
            return Eigh(xp.reshape(x, x.shape[:-1]), xp.copy(x))
        self._check_finite(wide)
        wide, large = self._lowered(wide, (-2, -1))
        # no eigenvalue is larger than the largest sum of a row (Gershgorin)
        shift = xp.max(self._total(xp.abs(wide), -1), axis=-1)[..., None, None] * 2.0
        shifted = wide + xp.eye(size, dtype=xp.float64, device=x.device) * shift
        _, _, v = self._orthogonalized(shifted)
        v = xp.flip(v, axis=-1)
        values = self._total(v * self._product(wide, v), -2)
        order = xp.argsort(values, axis=-1)
        values = xp._taken_along(values, order, -1)
        v = xp._taken_along(v, order[..., None, :], -1)
        values = self._raised(values, large[..., 0])
        return Eigh(self._back(values, x), self._back(v, x))

    def eigvalsh(self, x: Array, /) -> Array:
        """Return the eigenvalues of symmetric matrices, from the least on; see `eigh`."""
        return self.eigh(x).eigenvalues

    def matrix_rank(self, x: Array, /, *, rtol: Any = None) -> Array:
        """Return how many singular values are above `rtol` times the largest one."""
        xp = self._xp
        values = self.svdvals(x)
        infinite = xp.any(values == math.inf, axis=-1, keepdims=True)
        if bool(xp.any(infinite)):  # which have no ratios
            values = xp.where(infinite, self.svdvals(self._lowered(x, (-2, -1))[0]), values)
        limit = self._tolerance(x, values, rtol)
        return xp.count_nonzero(values > limit, axis=-1)

    def pinv(self, x: Array, /, *, rtol: Any = None) -> Array:
        """Return the pseudo-inverses, without singular values below `rtol` times the largest."""
        xp = self._xp
        wide, large = self._lowered(self._matrices(x, "pinv"), (-2, -1))
        u, values, vh = self.svd(wide, full_matrices=False)
        # those of x, unless one is infinite, which has no ratio to others
        whole = self._raised(values, large[..., 0])
        infinite = xp.any(whole == math.inf, axis=-1, keepdims=True)
        values = xp.where(infinite, values, whole)
        kept = values > self._tolerance(x, values, rtol)
        inverse = xp.where(kept, 1.0 / xp.where(kept, values, 1.0), 0.0)
        v = xp.matrix_transpose(vh) * inverse[..., None, :]
        result = self._product(v, xp.matrix_transpose(u))
        return self._back(xp.where(infinite[..., None], result * 2.0**-16, result), x)

    def _tolerance(self, x: Array, values: Array, rtol: Any) -> Array:
        xp = self._xp
        if rtol is None:
            rtol = max(x.shape[-2:]) * xp.finfo(x.dtype).eps
        elif not isinstance(rtol, (int, float)):
            rtol = rtol[..., None]
        if not values.shape[-1]:
            return values
        return xp.max(values, axis=-1, keepdims=True) * rtol


def _tournament(size: int) -> list[tuple[list[int], list[int]]]:
    """Return rounds in which everybody meets somebody, and after which everybody has met all.

    The first one keeps his seat, and the others move on by one (the circle method).
    """
    players: list[int | None] = [*range(size), *([None] if size % 2 else [])]
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = [
            (min(a, b), max(a, b))
            for a, b in zip(players[:half], reversed(players[half:]), strict=True)
            if a is not None and b is not None
        ]
        if pairs:
            rounds.append(([a for a, _ in pairs], [b for _, b in pairs]))
        players = [players[0], players[-1], *players[1:-1]]
    return rounds
