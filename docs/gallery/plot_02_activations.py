"""
Activations and their derivatives
=================================

What xpnn calls an activation is a function and its pullback, the product with its derivative. The left panels show
the first, the right ones the second, which is what training computes.

It needs ``pip install "xpnn[plot]"``.
"""

import xpnn
from xpnn.activations import ACTIVATIONS

print(", ".join(ACTIVATIONS))
xpnn.plot_activations(["relu", "h_swish:n=6", "tanhexp"])

# %%
# ReLU's derivative jumps from 0 to 1. h-swish replaces Swish's sigmoid by straight pieces, so its derivative is a
# straight line between two jumps; ``n`` is the width of that piece. TanhExp has no corner at all.

xpnn.plot_activations(["h_swish:n=2", "h_swish:n=4", "h_swish:n=6", "swish"], low=-5, high=5)

# %%
# The others, in the same way. A parameter follows the name:

xpnn.plot_activations(
    ["leaky_relu:negative_slope=0.1", "elu:alpha=1", "softplus", "gelu", "mish"], low=-3, high=3
)

# %%
# Is each derivative that of its function? Finite differences say so, on NumPy in float64:

for name in ACTIVATIONS:
    print(xpnn.testing.check_gradients(name, backends=["numpy"]))
