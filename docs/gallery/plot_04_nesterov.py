"""
Nesterov's path through a valley
================================

A valley that is 30 times as steep across as along: the loss is (x² + 30 y²) / 2. Gradient descent, momentum and
Nesterov's momentum start at the same point with the same learning rate. An optimizer is a pair of functions, ``init``
and ``update``, so it can be used without a network.

It needs ``pip install "xpnn[plot]"``.
"""

import numpy as np
from matplotlib import pyplot as plt

import xpnn

STEEP = np.asarray([1.0, 30.0])


def path(optimizer, steps=60):
    """Return the points from the start on."""
    parameters = [{"w": np.asarray([-4.0, 1.0])}]
    state = optimizer.init(parameters)
    points = [parameters[0]["w"].copy()]
    for _ in range(steps):
        gradients = [{"w": STEEP * parameters[0]["w"]}]
        parameters, state = optimizer.update(parameters, gradients, state)
        points.append(parameters[0]["w"].copy())
    return np.stack(points)


optimizers = {
    "gradient descent": xpnn.SGD(lr=0.03),
    "Momentum": xpnn.Momentum(lr=0.03, mu=0.9),
    "Nesterov": xpnn.Nesterov(lr=0.03, mu=0.9),
}
paths = {name: path(optimizer) for name, optimizer in optimizers.items()}

with xpnn.plots.style() as colors:
    figure, panels = plt.subplots(
        3, 1, figsize=(8, 7), layout="constrained", sharex=True, sharey=True
    )
    x, y = np.meshgrid(np.linspace(-4.6, 4.6, 200), np.linspace(-1.5, 1.5, 120))
    for axes, (name, points), color in zip(panels, paths.items(), ("s1", "s2", "s3"), strict=True):
        axes.contour(
            x, y, (x**2 + 30 * y**2) / 2, levels=np.geomspace(0.1, 40, 10), colors=colors["grid"]
        )
        axes.plot(*points.T, "-o", markersize=3, linewidth=1.2, color=colors[color])
        axes.plot(0, 0, "+", color=colors["ink"], markersize=10)
        axes.grid(visible=False)
        axes.set_title(name, loc="left", color=colors[color])
    panels[-1].set_xlabel("along the valley")

# %%
# Gradient descent does not leave the valley's floor, but is slow along it. Momentum is fast and overshoots, in both
# directions. Nesterov takes the gradient at the point that the velocity leads to, brakes earlier, and its oscillation
# across the valley dies down sooner.

with xpnn.plots.style():
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, points in paths.items():
        axes.semilogy(np.sum(STEEP * points**2, axis=1) / 2, label=name)
    axes.set(xlabel="step", title="loss")
    xpnn.plots.label_lines(axes)

# %%
# The steps until the loss stays below 0.01:

for name, points in paths.items():
    above = np.flatnonzero(np.sum(STEEP * points**2, axis=1) / 2 >= 0.01)
    until = above[-1] + 1
    print(f"{name:16}  {until if until < len(points) else 'not reached'}")

# %%
# How far the path swings across the valley after the tenth step:

swings = {name: np.abs(points[10:, 1]).max() for name, points in paths.items()}
for name, swing in swings.items():
    print(f"{name:16}  {swing:.2e}")
assert swings["Nesterov"] < swings["Momentum"]
