"""
A table, from CSV to ONNX
=========================

A CSV file with texts, truth values and missing cells becomes a trained model, and the model a file that runs without
xpnn. The passengers are made up in a few lines; a file of your own takes their place.

It needs ``pip install "xpnn[onnx,plot,table]" onnxruntime pandas``.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pandas

import xpnn
from xpnn.inference import confusion

rows = 900
rng = np.random.RandomState(0)
sex = rng.choice(["female", "male"], rows, p=[0.35, 0.65])
rank = rng.choice([1, 2, 3], rows, p=[0.25, 0.2, 0.55])
age = rng.normal(30, 14, rows).clip(1, 80).round()
alone = rng.uniform(size=rows) < 0.6
logit = 4.0 * (sex == "female") - 1.5 * rank - 0.05 * (age - 30) - 0.5 * alone + 1.5
table = pandas.DataFrame(
    {
        "PassengerId": np.arange(1, rows + 1),
        "Survived": (rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))).astype(int),
        "Pclass": rank,
        "Sex": sex,
        "Age": np.where(rng.uniform(size=rows) < 0.2, np.nan, age),  # a fifth is unknown
        "Alone": alone,
        "Fare": (rng.lognormal(0, 0.5, rows) * 60 / rank**1.5).round(2),
    }
)
folder = Path(tempfile.mkdtemp())
table[:800].to_csv(folder / "passengers.csv", index=False)
new = table[800:].drop(columns="Survived")
table.head()

# %%
# Only what is no feature has to be named. A fifth of the rows is held out.

data = xpnn.datasets.from_table(
    pandas.read_csv(folder / "passengers.csv"),
    target="Survived",
    ignore=["PassengerId"],
)
train, test = xpnn.datasets.split(data, 0.2, seed=10)
model = xpnn.Sequential(xpnn.Dense(100), xpnn.Activation("relu"), xpnn.Dense(2))
history = xpnn.fit(
    model,
    train,
    validation=test,
    normalizer="standard",
    optimizer="adam",
    batch_size=16,
    epochs=60,
    metrics=["f1"],
    callbacks=[xpnn.EarlyStopping("test_loss", patience=5)],
    seed=10,
    verbose=False,
)
print(f"{len(train.x)} rows to train on, {len(test.x)} held out; {history.stopped}")
xpnn.plot_history(history)

# %%
# What was learned of the columns belongs to the model:

for column in model.task.columns.columns:
    print(column)

# %%
# What it gets wrong on the rows that it was not trained on:

print(xpnn.evaluate(model, test, metrics=["f1", "roc_auc"]))
xpnn.plot_confusion(confusion(model, test), names=model.task.labels)

# %%
# The ONNX file holds the network, the scaling and the treatment of missing cells. Its input is the columns as numbers and
# codes: a text is its number among the categories, NaN is missing. ``codes`` makes them, and ONNX Runtime gives the
# probabilities that xpnn gives, to the rounding of float32:

xpnn.export_onnx(model, folder / "passengers.onnx")
session = onnxruntime.InferenceSession(folder / "passengers.onnx")
codes = model.task.columns.codes("new", new[list(model.task.feature_names)].to_numpy(object))
(theirs,) = session.run(["probabilities"], {"x": codes})
ours = xpnn.predict_proba(model, new)
print(f"{len(new)} new passengers; largest difference: {np.max(np.abs(theirs - ours)):.1e}")
assert np.max(np.abs(theirs - ours)) < 1e-5
pandas.DataFrame({"ONNX Runtime": theirs[:5, 1], "xpnn": ours[:5, 1]}, index=new["PassengerId"][:5])
