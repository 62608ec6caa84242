"""The same bits on every backend: an array-API namespace around that of another library.

Addition, subtraction, multiplication, division, comparison, ``floor`` and ``where`` are rounded
alike by every array library. Three things are not, and this package replaces them:

* **Products and sums**, whose order is up to the BLAS. Ozaki's error-free split cuts each operand
  into slices of few bits. Products of slices are integers below 2^53 times a power of two, so any
  BLAS gives them exactly, in any order; they are added in a fixed order.
* **exp, log, tanh, …**, which each library computes in its own way. Here they are tables and short
  polynomials made of the operations above.
* **The smallest numbers.** XLA and CuPy flush subnormals to zero, and NumPy keeps them. Here every
  number is a multiple of twice the least normal one: 2^-1021 and, in float32, 2^-125. So no sum
  or difference is ever subnormal, and products and quotients are rounded to such multiples. Zero
  has no sign, because libraries differ in which zero `maximum` or an empty sum gives.

Operations run one by one. A compiler that sees two of them may fuse them, so nothing here may be
compiled by ``jit``.

`namespace` opens the namespace of the whole array API standard. Networks are trained with a part of
it, `arithmetic`, which looks at no value that it needn't know.

The modules, from bottom to top: `formats` has the numbers, `dtypes` what is kept to the bit,
`arguments` what a count, a shape and an axis are, `exact` operations without a rounding error, and
`facts` what is known of elements without looking at them; `tables`, `functions`, `powers`,
`trigonometry`, `remainders`, `integers` and `random` are elementwise. An `operand` is a raw array
with its facts; `cuts`, `pixels` and `products` compute with operands, under the `assumptions` of an
epoch. `survey` finds the facts of a data set, `array` adds operators to an operand, and `namespace`
has the functions of networks. `standard` adds the others, with `indexing`, `linalg`, `generator`,
`sets` and `info`.

References
----------
K. Ozaki, T. Ogita, S. Oishi, S. M. Rump, *Error-free transformations of matrix multiplication by
using fast routines of matrix multiplication and its applications*, Numer. Algorithms 59 (2012).
J. Demmel, H. D. Nguyen, *Fast reproducible floating-point summation*, ARITH 21 (2013).
"""

from xpnn.reproducible.array import Array
from xpnn.reproducible.facts import Facts
from xpnn.reproducible.generator import Generator
from xpnn.reproducible.namespace import PRECISIONS, Namespace, arithmetic
from xpnn.reproducible.public import namespace
from xpnn.reproducible.random import RandomState, randn
from xpnn.reproducible.standard import StandardNamespace
from xpnn.reproducible.survey import canonical, survey

__all__ = [
    "PRECISIONS",
    "Array",
    "Facts",
    "Generator",
    "Namespace",
    "RandomState",
    "StandardNamespace",
    "arithmetic",
    "canonical",
    "namespace",
    "randn",
    "survey",
]
