"""
MNIST by the article
====================

The network of the article that xpnn was first written for: 784 inputs, 100 and 50 hidden units, h-swish, and
plain gradient descent. The data, the seed and the settings are the article's; it trained for 50 epochs, and here
we stop after 3.

It needs ``pip install "xpnn[download,plot]"``.
"""

from pathlib import Path

import numpy as np

import xpnn
from xpnn.study.article import published

folder = Path("data/mnist")  # in a checkout; elsewhere MNIST is downloaded
train, test = xpnn.datasets.mnist(folder if folder.exists() else None)
model = xpnn.Sequential(
    xpnn.Dense(100, weight="he_normal"),
    xpnn.Activation("h_swish", n=6),
    xpnn.Dense(50, weight="he_normal"),
    xpnn.Activation("h_swish", n=6),
    xpnn.Dense(10, weight="he_normal"),
)
history = xpnn.fit(
    model,
    train,
    validation=test,
    optimizer=xpnn.SGD(lr=0.1),
    epochs=3,
    batch_size=100,
    seed=10,
    dtype="float64",
    verbose=False,
)
xpnn.plot_history(history)

# %%
# The article published its log. Ours has the same rows, to the rounding of float64:

log = published.log("h_swish")
for row in history:
    print(f"epoch {row.epoch}: ours {row.test_loss!r}, published {log['test_loss'][row.epoch]!r}")
apart = max(abs(row.test_loss - log["test_loss"][row.epoch]) for row in history)
assert apart < 1e-12
assert all(row.test_accuracy == log["test_accuracy"][row.epoch] for row in history)
print(f"largest difference of the losses: {apart:.1e}; the accuracies are equal")

# %%
# What does the network still get wrong? These images come first, because it was surest of them:

xpnn.plot_errors(model, test, count=10)

# %%
# Which digits it takes for which: a row is a true class, a column a predicted one.

matrix = xpnn.metrics.confusion_matrix(test.y, xpnn.predict(model, test.x), classes=10)
wrong = matrix - np.diag(np.diag(matrix))
true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
print(f"most often, {wrong.max()} times, a {true} is taken for a {predicted}")
xpnn.plot_confusion(matrix)
