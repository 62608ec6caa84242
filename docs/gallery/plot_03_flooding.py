"""
Flooding's double life
======================

Flooding (Ishida et al. 2020) keeps the training loss from falling below a level b: where the loss of a mini-batch is
less than b, the step goes uphill. So b is two things: a floor under the training loss, and a brake on
overfitting.

A small network, on 1000 of MNIST's training images and 1000 of its test images, for 40 epochs, soon knows its training
images by heart. That is where Flooding has something to do.

It needs ``pip install "xpnn[download,plot]"``.
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import xpnn

folder = Path("data/mnist")  # in a checkout; elsewhere MNIST is downloaded
train, test = xpnn.datasets.mnist(folder if folder.exists() else None)
train = (train.x[:1000], train.y[:1000])
test = (test.x[:1000], test.y[:1000])

levels = [0.0, 0.02, 0.05, 0.1]
histories = {}
for b in levels:
    model = xpnn.Sequential(xpnn.Dense(50), xpnn.Activation("relu"), xpnn.Dense(10))
    histories[f"b = {b:g}" if b else "no flooding"] = xpnn.fit(
        model,
        train,
        validation=test,
        loss=xpnn.Flooding(xpnn.CrossEntropy(), b=b) if b else xpnn.CrossEntropy(),
        optimizer=xpnn.SGD(lr=0.2),
        epochs=40,
        batch_size=50,
        seed=1,
        verbose=False,
    )

with xpnn.plots.style() as colors:
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharex=True)
    for axes, part in zip(panels, ("train", "test"), strict=True):
        for name, history in histories.items():
            losses = [getattr(row, f"{part}_loss") for row in history]
            axes.plot(range(len(losses)), losses, label=name)
            if part == "test":
                best = int(np.argmin(losses))
                axes.plot(best, losses[best], "o", color=axes.lines[-1].get_color(), label="_best")
        axes.set(
            title=f"{part} loss", xlabel="epoch", ylim=(0.4, 0.7) if part == "test" else (0, 0.3)
        )
        xpnn.plots.label_lines(axes)

# %%
# On the left, each training loss sinks to about its b and stays there. On the right, the circles are where the test
# loss is least, that is, where to stop:

print("                best epoch  test loss there  at the end  accuracy at the end")
for name, history in histories.items():
    losses = [row.test_loss for row in history]
    best = int(np.argmin(losses))
    end = history[-1]
    print(
        f"{name:14}  {best:10}  {losses[best]:15.4f}  {losses[-1]:10.4f}  {end.test_accuracy:19.4f}"
    )

# %%
# Without flooding the test loss rises again after its best epoch, and early stopping is needed. With b = 0.1 it ends
# nearer to its least value: the floor does part of what stopping would have done. This is one seed; on the way, the
# test loss of a flooded network jumps, because the steps that keep the training loss at b go uphill half the time.

plain, flooded = (histories[name] for name in ("no flooding", "b = 0.1"))


def rise(history):
    """Return how far the test loss is above its least value at the end."""
    losses = [row.test_loss for row in history]
    return losses[-1] - min(losses)


print(
    f"rise after the best epoch: {rise(plain):.4f} without flooding, {rise(flooded):.4f} with b = 0.1"
)
assert rise(flooded) < rise(plain)
assert plain[-1].train_loss < 0.02 < flooded[-1].train_loss
