"""The article's four networks on the real MNIST, against the logs that were published with it."""

import csv

import numpy as np
import pytest

from tests.helpers import ARTICLE, LIBRARIES, ROOT, open_backend
from xpnn.cli import main
from xpnn.settings import Settings

EPOCHS = 3
FIGURES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")

# the run, its log, and how far a float64 run on NumPy may be from that
RUNS = {
    "h_swish": (Settings(activation="h_swish:n=6", epochs=EPOCHS), "h_swish.csv", 1e-12),
    "tanhexp": (Settings(activation="tanhexp", epochs=EPOCHS), "tanhexp.csv", 1e-12),
    "flooding": (Settings(flood=0.01, epochs=EPOCHS), "flooding_b0.01.csv", 1e-9),
    "nesterov": (
        Settings(optimizer="nesterov:lr=0.1,mu=0.9", epochs=EPOCHS),
        "nesterov.csv",
        1e-9,
    ),
}
# how far an accuracy may be from another library's: rounding may turn a sample on the boundary
ONE_SAMPLE = 1.01e-4


def read(path, rows=EPOCHS + 1):
    """Return the figures of the first rows of a log, an epoch a row."""
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))[:rows]
    assert [row["epoch"] for row in table] == [str(epoch) for epoch in range(rows)]
    return np.array([[float(row[name]) for name in FIGURES] for row in table])


@pytest.fixture(scope="module")
def trained(mnist):
    """A function that trains a network on a library, once, and returns its log's figures."""
    done = {}

    def figures(name, library):
        key = name, library.removesuffix("-readonly")
        if key not in done:
            settings = RUNS[name][0].replaced(init="he_normal")
            backend = open_backend(library, "float64")
            model = settings.make_model(*mnist)
            history = settings.fit(model, *mnist, backend=backend)
            done[key] = np.array([[getattr(row, f) for f in FIGURES] for row in history])
        return done[key]

    return figures


@pytest.mark.parametrize("name", [name for name in RUNS if name != "h_swish"])
def test_numpy_gives_the_published_log(name, trained):
    _, log, tolerance = RUNS[name]
    np.testing.assert_allclose(
        trained(name, "numpy"), read(ARTICLE / log), rtol=0, atol=tolerance, strict=True
    )


@pytest.mark.usefixtures("mnist")
def test_the_command_gives_the_published_log(tmp_path):
    path = tmp_path / "run.csv"
    status = main(
        f"train {ROOT / 'data' / 'mnist'} --hidden 100,50 --activation h_swish:n=6 "
        f"--init he_normal --optimizer sgd:lr=0.1 --batch-size 100 --epochs {EPOCHS} --seed 10 "
        f"--dtype float64 --log {path} --quiet".split()
    )
    assert status == 0
    np.testing.assert_allclose(
        read(path), read(ARTICLE / "h_swish.csv"), rtol=0, atol=1e-12, strict=True
    )


@pytest.mark.parametrize("library", [name for name in LIBRARIES if not name.startswith("numpy")])
@pytest.mark.parametrize("name", RUNS)
def test_every_library_gives_the_losses_of_numpy(name, library, trained):
    ours, numpys = trained(name, library), trained(name, "numpy")
    np.testing.assert_allclose(ours[:, 1::2], numpys[:, 1::2], rtol=0, atol=1e-10, strict=True)
    np.testing.assert_allclose(ours[:, ::2], numpys[:, ::2], rtol=0, atol=ONE_SAMPLE)
