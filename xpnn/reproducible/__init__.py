"""The same bits on every backend: an array-API namespace wrapped round another one.

Addition, subtraction, multiplication, division, comparison, ``floor`` and ``where`` are rounded
the same way by every array library. Three things are not, and this package replaces them:

* **products and sums**, whose order belongs to the BLAS. Ozaki's error-free split cuts each
  operand into slices of few bits; products of slices are integers below 2^53 times a power of
  two, so any BLAS gives them exactly, in any order; they are added in a fixed order.
* **exp, log, tanh, …**, of which each library has its own. Here they are tables and short
  polynomials made of the operations above.
* **the smallest numbers.** XLA and CuPy flush subnormals to zero and NumPy keeps them. Here every
  number is a multiple of the least normal one, 2^-1022 in float64 and 2^-126 in float32, so no
  sum or difference is ever subnormal; products and quotients are rounded to such multiples.
  Zero has no sign: which zero `maximum` or an empty accumulator gives differs between libraries.

Operations run one by one: a compiler that sees two of them may fuse them, so nothing here goes
under ``jit``.

References
----------
K. Ozaki, T. Ogita, S. Oishi, S. M. Rump, *Error-free transformations of matrix multiplication by
using fast routines of matrix multiplication and its applications*, Numer. Algorithms 59 (2012).
J. Demmel, H. D. Nguyen, *Fast reproducible floating-point summation*, ARITH 21 (2013).
"""

from xpnn.reproducible.array import Array
from xpnn.reproducible.namespace import PRECISIONS, Namespace, namespace
from xpnn.reproducible.pixels import Pixels
from xpnn.reproducible.random import RandomState, randn
from xpnn.reproducible.survey import canonical, survey

__all__ = [
    "PRECISIONS",
    "Array",
    "Namespace",
    "Pixels",
    "RandomState",
    "canonical",
    "namespace",
    "randn",
    "survey",
]
