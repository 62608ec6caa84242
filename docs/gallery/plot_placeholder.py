"""
Activations
===========

A placeholder.
"""

import xpnn

figure = xpnn.plot_activations(["relu", "h_swish", "tanhexp"])
