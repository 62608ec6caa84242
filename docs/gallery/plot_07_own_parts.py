"""
A layer and an activation of your own, checked
==============================================

An activation is one function, a layer a small class: value and derivative side by side, written against the array API
standard. ``check_gradients`` compares the derivative with finite differences.

It needs ``pip install "xpnn[plot,torch]"``.
"""

import numpy as np

import xpnn


@xpnn.activations.register
def sinus(u, *, xp):
    """Return ``u + sin(u)²``, which can learn what is periodic (Ziyin et al. 2020, with a = 1)."""
    s, c = xp.sin(u), xp.cos(u)
    return u + s * s, lambda dz: dz * (1.0 + 2.0 * s * c)


@xpnn.layers.register
class Scale(xpnn.Layer):
    """``factor x``, with a factor for each feature."""

    kind = "scale"

    def shapes(self, inputs):
        return {"factor": (inputs,)}

    def initialize(self, inputs, rng):
        return {"factor": np.ones(inputs)}

    def forward(self, parameters, x, *, xp):
        factor = parameters["factor"]

        def pullback(dy, input_gradient=True):
            gradients = {"factor": xp.sum(dy * x, axis=0)}
            return dy * factor if input_gradient else None, gradients

        return x * factor, pullback


print(xpnn.testing.check_gradients("sinus", backends=["numpy", "torch"]))
print(xpnn.testing.check_gradients(Scale(), backends=["numpy", "torch"]))

# %%
# A derivative that is wrong is found. Here the factor 2 is missing:


@xpnn.activations.register
def sinus_by_mistake(u, *, xp):
    s, c = xp.sin(u), xp.cos(u)
    return u + s * s, lambda dz: dz * (1.0 + s * c)


try:
    xpnn.testing.check_gradients("sinus_by_mistake", backends=["numpy"])
except AssertionError as error:
    print(error)
else:
    raise AssertionError("the mistake wasn't found")

# %%
# The activation beside ReLU:

xpnn.plot_activations(["sinus", "relu"], low=-6, high=6)

# %%
# A wave with a slope, from 200 points. The same network learns it with each activation; outside the points' range, a network
# of ReLUs goes on straight ahead.

from matplotlib import pyplot as plt

rng = np.random.RandomState(0)
x = rng.uniform(-6, 6, (200, 1))
y = 0.5 * x + np.sin(2 * x)
wide = np.linspace(-10, 10, 400)[:, None]

with xpnn.plots.style() as colors:
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.plot(x, y, ".", color=colors["soft"], markersize=4, label="_points")
    for activation in ("sinus", "relu"):
        model = xpnn.Sequential(xpnn.Dense(32), Scale(), xpnn.Activation(activation), xpnn.Dense(1))
        history = xpnn.fit(
            model,
            (x, y),
            loss=xpnn.MeanSquaredError(),
            optimizer=xpnn.Adam(lr=0.01),
            epochs=300,
            batch_size=50,
            seed=1,
            verbose=False,
        )
        axes.plot(wide, xpnn.predict(model, wide), label=activation)
        print(f"{activation}: training loss {history[-1].train_loss:.4f}")
    axes.axvspan(-6, 6, color=colors["grid"], alpha=0.4, linewidth=0)
    axes.set(xlabel="x", title="what each network predicts; the points are within the shaded range")
    xpnn.plots.label_lines(axes)
