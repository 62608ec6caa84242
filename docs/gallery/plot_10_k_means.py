"""
The same bits without a network: k-means
========================================

``xpnn.reproducible.namespace`` is a namespace of the array API standard that gives the same bits on every library. Code
that is written against the standard runs on it as it stands. Here it is k-means, with random points to start from.

It needs ``pip install "xpnn[jax,plot,testing,torch]"``.
"""

import hashlib

import numpy as np
from matplotlib import pyplot as plt

import xpnn
from xpnn import reproducible


def k_means(xp, points, clusters, steps, seed):
    """Return the centres of all steps, and the cluster of each point (Lloyd's algorithm)."""
    centres = xp.random(seed).choice(points, clusters, replace=False)
    path = [centres]
    for _ in range(steps):
        distances = xp.sum((points[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
        nearest = xp.argmin(distances, axis=-1)
        belongs = xp.astype(nearest[:, None] == xp.arange(clusters)[None, :], points.dtype)
        centres = (belongs.T @ points) / xp.sum(belongs, axis=0)[:, None]
        path.append(centres)
    return xp.stack(path), nearest


def data(xp):
    """Return 300 points in three groups. The random numbers are the same everywhere, too."""
    groups = xp.astype(xp.random(2).integers(0, 3, (300, 1)), xp.float64)
    corner = xp.concat([groups, xp.abs(groups - 1.0)], axis=1)
    return xp.random(1).normal((300, 2)) + 4.0 * corner


# %%
# One hash of all centres, in each step, on four libraries:

results = {}
for library in ("numpy", "torch", "jax", "strict"):
    xp = reproducible.namespace(library)
    path, nearest = k_means(xp, data(xp), clusters=3, steps=8, seed=5)
    results[library] = np.asarray(path), np.asarray(nearest)
    print(f"{library:6}  {hashlib.sha256(results[library][0].tobytes()).hexdigest()[:16]}")
assert len({path.tobytes() for path, _ in results.values()}) == 1

# %%
# The centres' way from three points of the data, the large circles, to the middle of each group:

path, nearest = results["numpy"]
points = np.asarray(data(reproducible.namespace("numpy")))
with xpnn.plots.style() as colors:
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for k, color in enumerate((colors["s1"], colors["s2"], colors["s3"])):
        axes.plot(*points[nearest == k].T, "^osDvX"[k], color=color, markersize=3.5, alpha=0.5)
        axes.plot(*path[:, k].T, "-", color=colors["ink"], linewidth=1.4)
        axes.plot(*path[0, k], "o", color=colors["ink"], markerfacecolor="none", markersize=10)
        axes.plot(*path[-1, k], "o", color=colors["ink"], markersize=6)
    axes.set_title("three clusters: where the centres begin and end")

# %%
# How far the centres move in each step:

moves = np.sqrt(np.sum(np.diff(path, axis=0) ** 2, axis=-1)).max(axis=1)
for step, move in enumerate(moves, 1):
    print(f"step {step}: {move:.4f}")
assert moves[-1] < moves[0]
