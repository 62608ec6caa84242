"""
From a scikit-learn pipeline to a search
========================================

``xpnn.estimators.MLPClassifier`` takes the place of scikit-learn's network in a pipeline: the import changes, nothing
else. Then the search can ask for what scikit-learn does not have. The data are its 1797 small digits.

It needs ``pip install "xpnn[plot,sklearn]"``.
"""

import warnings

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xpnn
from xpnn.estimators import MLPClassifier

warnings.simplefilter("ignore", ConvergenceWarning)  # ten epochs are few, and enough here

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

network = make_pipeline(
    StandardScaler(),
    MLPClassifier((30,), solver="sgd", learning_rate_init=0.1, max_iter=10, random_state=0, tol=0),
)
network.fit(X_train, y_train)
print(f"accuracy of the pipeline: {network.score(X_test, y_test):.4f}")

# %%
# A search over activations and levels of Flooding, with three folds each:

grid = {
    "mlpclassifier__activation": ["relu", "h_swish:n=6", "tanhexp"],
    "mlpclassifier__flood": [None, 0.05],
}
search = GridSearchCV(network, grid, cv=3).fit(X_train, y_train)
best = {name.removeprefix("mlpclassifier__"): value for name, value in search.best_params_.items()}
print(f"best in cross-validation: {best}, {search.best_score_:.4f}")
print(f"accuracy on the rows held out: {search.score(X_test, y_test):.4f}")

# %%
# All of its cells. A bar is the standard deviation of the three folds. Cells whose bars overlap are hardly told apart by so
# few folds, and the best one among them owes its rank to chance.

found = search.cv_results_
with xpnn.plots.style() as colors:
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    floods = grid["mlpclassifier__flood"]
    for i, activation in enumerate(grid["mlpclassifier__activation"]):
        rows = [
            k for k, p in enumerate(found["params"]) if p["mlpclassifier__activation"] == activation
        ]
        axes.errorbar(
            [k + 0.08 * (i - 1) for k in range(len(floods))],
            found["mean_test_score"][rows],
            found["std_test_score"][rows],
            fmt="o",
            capsize=4,
            label=activation,
        )
    axes.set_xticks(range(len(floods)), ["no flooding", *(f"b = {b}" for b in floods[1:])])
    axes.set(title="accuracy in cross-validation", xlim=(-0.4, len(floods) - 0.6))
    axes.legend()

# %%
# The best network is a model of xpnn, with its log:

estimator = search.best_estimator_[-1]
print(estimator.model_)
xpnn.plot_history(estimator.history_)
