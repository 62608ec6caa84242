"""
A study over seeds, with error bars
===================================

Which activation is best? One run of each says little: another seed gives other initial parameters and other batches. A study
runs every activation with every seed, here a small network on scikit-learn's 1797 small digits, for 10 epochs.

It needs ``pip install "xpnn[plot]" pandas scikit-learn``.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

import xpnn
from xpnn.study import read_folder, run

folder = Path(tempfile.mkdtemp())
load_digits(as_frame=True).frame.to_csv(folder / "digits.csv", index=False)

activations = ["relu", "h_swish:n=6", "tanhexp"]
rates = ["0.05", "0.2"]
seeds = range(5)
(folder / "seeds.toml").write_text(
    f"""
title = "Activations and learning rates"
hidden = "20"
epochs = 10
batch_size = 32
activation = {activations}
optimizer = {[f"sgd:lr={rate}" for rate in rates]}
seed = {list(seeds)}

[data]
path = "{(folder / "digits.csv").as_posix()}"
target = "target"
validation = 0.3
normalize = "standard"
"""
)
# each run takes less time than the start of a process: no processes here; jobs=2 starts two
outcome = run(
    folder / "seeds.toml", out=folder / "runs", executor=ThreadPoolExecutor(1), progress=False
)
assert not outcome.failures
print(f"{outcome.finished} runs")

# %%
# The results lie in a folder, a file for each run; a study that was stopped goes on there, and
# ``xpnn study report`` makes tables and pictures of them. In Python:

results, _ = read_folder(folder / "runs")
losses = {(activation, rate): [] for activation in activations for rate in rates}
for result in results.values():
    settings = result.job.settings
    key = str(settings.activation), str(settings.optimizer).removeprefix("sgd:lr=")
    losses[key].append(result.log["test_loss"][-1])

print("activation   learning rate  mean    standard error")
for (activation, rate), values in losses.items():
    error = np.std(values, ddof=1) / len(values) ** 0.5
    print(f"{activation:11}  {rate:13}  {np.mean(values):.4f}  {error:.4f}")

# %%
# Each small point is a run, each bar the mean with twice its standard error to both sides. Where bars overlap, the seeds matter
# more than what is compared, and a difference of single runs means nothing: here the learning rates are told apart, the
# activations are not.

with xpnn.plots.style() as colors:
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for i, rate in enumerate(rates):
        color = colors[("s1", "s2")[i]]
        middle = np.arange(len(activations)) + 0.2 * i - 0.1
        columns = np.asarray([losses[activation, rate] for activation in activations])
        error = 2 * columns.std(axis=1, ddof=1) / columns.shape[1] ** 0.5
        axes.plot(np.repeat(middle, len(seeds)), columns.ravel(), ".", color=color, alpha=0.4)
        axes.errorbar(
            middle,
            columns.mean(axis=1),
            error,
            fmt="o",
            color=color,
            capsize=4,
        )
        last = len(activations) - 0.75, columns[-1].mean()
        axes.text(*last, f"learning rate {rate}", color=color, va="center")
    axes.set_xticks(range(len(activations)), activations)
    axes.set(title="test loss after the last epoch", xlim=(-0.4, len(activations) - 0.1))
for activation in activations:
    slow, fast = (np.mean(losses[activation, rate]) for rate in rates)
    assert fast < slow
