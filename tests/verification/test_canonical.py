"""Every backend is held to the published hashes: a release that changes one bit is found here."""

import pytest

from tests.helpers import open_backend
from xpnn.verification import canonical_runs, generated, run_canonical

RUNS = {run.name: run for run in canonical_runs()}
LIBRARIES = ("numpy", "torch", "jax", "strict", "cupy")


def test_the_standard_runs_cover_both_dtypes_and_the_article():
    assert {run.dtype for run in RUNS.values()} == {"float32", "float64"}
    assert sum(run.data == "mnist" for run in RUNS.values()) == 4
    for run in RUNS.values():
        assert len(run.hashes) == run.settings.epochs + 1
        assert len(set(run.hashes)) == len(run.hashes)


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run.data == "generated"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_generated_data(library, name):
    open_backend(library)
    run = RUNS[name]
    assert run_canonical(run, generated(), library) == run


@pytest.mark.parametrize(
    ("library", "name"),
    [("numpy", name) for name, run in RUNS.items() if run.data == "mnist"]
    + [(library, "article-tanhexp") for library in LIBRARIES[1:]],
)
def test_an_epoch_of_the_article(library, name, mnist):
    open_backend(library)
    run = RUNS[name]
    first = run._replace(settings=run.settings.replaced(epochs=1))
    found = run_canonical(first, mnist, library)
    assert (found.hashes, found.log) == (run.hashes[:2], run.log[:2])
