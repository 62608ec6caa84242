"""
The same bits on four libraries
===============================

NumPy, PyTorch, JAX and array-api-strict train the same network from the same seed: 200 images, 40 epochs of two steps.
First each library computes in its own way, then with ``reproducible=True``. array-api-strict computes with NumPy, so
that by themselves the four have three results; it is here as a library that has nothing but what the standard says.

It needs ``pip install "xpnn[download,jax,plot,testing,torch]"``.
"""

import warnings
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import xpnn

folder = Path("data/mnist")  # in a checkout; elsewhere MNIST is downloaded
train, test = xpnn.datasets.mnist(folder if folder.exists() else None)
images = train.x[:200].reshape(-1, 28, 28)[:, ::2, ::2].reshape(200, 196)  # every other pixel
digits = train.y[:200]
LIBRARIES = ["numpy", "torch", "jax", "strict"]


class Parameters(xpnn.Callback):
    """Keep the parameters after each epoch, as one vector."""

    def on_start(self, run):
        self.model, self.kept = run.model, []

    def on_epoch(self, epoch):
        arrays = [a for layer in self.model.host_parameters() for a in layer.values()]
        self.kept.append(np.concatenate([np.ravel(a) for a in arrays]))


def trained(library, reproducible):
    """Return the hash of the trained model, and its parameters after each epoch."""
    model = xpnn.Sequential(xpnn.Dense(20), xpnn.Activation("relu"), xpnn.Dense(10))
    parameters = Parameters()
    xpnn.fit(
        model,
        (images, digits),
        optimizer=xpnn.Nesterov(lr=0.3),
        epochs=40,
        batch_size=100,
        seed=10,
        backend=library,
        reproducible=reproducible,
        callbacks=[parameters],
        verbose=False,
    )
    return model.sha256()[:16], parameters.kept


with warnings.catch_warnings(action="ignore"):
    native = {library: trained(library, False) for library in LIBRARIES}
    same = {library: trained(library, True) for library in LIBRARIES}

print("library  by itself         reproducible")
for library in LIBRARIES:
    print(f"{library:7}  {native[library][0]}  {same[library][0]}")
assert len({digest for digest, _ in same.values()}) == 1

# %%
# How far the parameters are from NumPy's, after each epoch, in float32. It begins with the last digits, since each
# library adds in another order, and grows from epoch to epoch. With ``reproducible=True`` the distance is 0, which a
# logarithmic axis cannot show; it is the line at the bottom.


def distances(runs, library):
    """Return the largest distance of a parameter to NumPy's, for each epoch."""
    pairs = zip(runs["numpy"][1], runs[library][1], strict=True)
    return [float(np.max(np.abs(ours - theirs))) for ours, theirs in pairs]


with xpnn.plots.style():
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for library in LIBRARIES[1:]:
        axes.plot(distances(native, library), label=f"{library}, by itself")
    zeros = np.max([distances(same, library) for library in LIBRARIES[1:]], axis=0)
    axes.plot(zeros, label="all, reproducible", linewidth=3)
    axes.set_yscale("symlog", linthresh=1e-9)
    axes.set_ylim(-1e-10, None)
    axes.set(xlabel="epoch", title="largest distance of a parameter to NumPy's")
    axes.xaxis.get_major_locator().set_params(integer=True)
    xpnn.plots.label_lines(axes)
assert not zeros.any()
