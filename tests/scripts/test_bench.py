"""`scripts/bench/epochs.py` on a small random data set: structure, counts, the same losses."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT, environment, open_backend

SCRIPTS = ROOT / "scripts" / "bench"
SAMPLES, ROUNDS = 400, 2
ASKED = ("relu", "tanhexp")
EXACT = ("xpnn-numpy", "xpnn-torch", "xpnn-jax", "torch", "jax", "sklearn")
LIBRARY = {
    "xpnn-torch": "torch",
    "xpnn-jax": "jax",
    "torch": "torch",
    "torch-compile": "torch",
    "jax": "jax",
    "sklearn": "sklearn",
}
# torch.compile takes half a minute of compiling
NAMES = ("xpnn-numpy", "xpnn-torch", "xpnn-jax", "numpy", "torch", "jax", "sklearn", "floor")
ON_CARD = ("xpnn-torch", "xpnn-jax", "xpnn-cupy", "cupy", "torch", "jax", "floor")
WITH_CUPY = {"xpnn-cupy", "cupy", "floor"}


def bench(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "epochs.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def contenders(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("contenders")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The report, as JSON and as text, of a run of all but torch.compile."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    done = bench(
        *("random", "--samples", str(SAMPLES), "--rounds", str(ROUNDS), "--network", "article"),
        *("--activation", *ASKED, "--dtype", "float32", "--only", *NAMES, "--json", str(path)),
    )
    return json.loads(path.read_text(encoding="utf-8")), done.stdout


def missing(name):
    return name in LIBRARY and importlib.util.find_spec(LIBRARY[name]) is None


def test_cases(run):
    report, _ = run
    found = [(case["activation"], case["dtype"]) for case in report["cases"]]
    assert found == [(activation, "float32") for activation in ASKED]
    for case in report["cases"]:
        assert (case["sizes"], case["batch"]) == ([784, 100, 50, 10], 100)
        assert case["failed"] == {}
        absent = {name for name in NAMES if missing(name)}
        if case["activation"] != "relu":
            absent |= {"sklearn"}
        assert set(case["skip"]) == absent
        assert set(case["contenders"]) == set(NAMES) - absent


def test_times(run):
    report, _ = run
    for case in report["cases"]:
        for found in case["contenders"].values():
            assert len(found["wall"]) == len(found["cpu"]) == ROUNDS
            assert min(found["wall"]) > 0


def test_losses(run):
    """Float32 epochs of four steps differ by a few hundred roundings, not by more."""
    report, _ = run
    for case in report["cases"]:
        reference = case["reference_loss"]
        assert len(reference) == 1 + ROUNDS
        assert reference[-1] < reference[0]
        for name, found in case["contenders"].items():
            if name == "floor":
                assert "loss" not in found
                continue
            np.testing.assert_allclose(found["loss"], reference, rtol=1e-4, err_msg=name)


def test_accuracies(run):
    """All count the same hits; a tie may fall another way in float32."""
    report, _ = run
    for case in report["cases"]:
        rows = [
            c["accuracy"] for n, c in case["contenders"].items() if n not in ("floor", "sklearn")
        ]
        np.testing.assert_allclose(rows, [rows[0]] * len(rows), atol=1.5 / SAMPLES)


def test_ratios(run):
    report, _ = run
    for case in report["cases"]:
        ours, floor = (case["contenders"][name]["wall"] for name in ("xpnn-numpy", "floor"))
        rounds = np.divide(ours, floor)
        quartiles = np.quantile(rounds, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(case["ratios"]["xpnn-numpy / floor"]["wall"], quartiles)


def tables_of(text):
    return [t.splitlines() for t in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)]


def test_table(run):
    report, text = run
    tables = tables_of(text)
    assert [len(table) for table in tables] == [2 + len(ASKED)] * 3
    for table in tables:
        assert {row.count("|") for row in table} == {table[0].count("|")}
    assert tables[0][0].split(" | ")[2:] == [*NAMES[:-1], "floor |"]
    assert "xpnn-numpy / floor ≤ 1.1" in tables[1][0]
    assert "784-100-50-10, tanhexp, float32" in text
    assert f"numpy {np.__version__}" in text
    assert report["machine"]["versions"]["numpy"] == np.__version__


def test_each_librarys_own_threads(tmp_path):
    """One thread of xpnn's is timed beside them; their CPU times would say nothing."""
    done = bench(
        *("random", "--threads", "default", "--samples", "200", "--rounds", "1"),
        *("--network", "article", "--activation", "relu", "--dtype", "float32"),
        *("--only", "xpnn-numpy", "xpnn-numpy-1", "numpy"),
    )
    seconds, ratios = tables_of(done.stdout)
    assert seconds[0] == "| network | samples | xpnn-numpy | xpnn-numpy-1 | numpy |"
    assert "xpnn-numpy / xpnn-numpy-1 ≤ 0.65" in ratios[0]
    assert "default threads" in done.stdout


@pytest.fixture(scope="module")
def card():
    """The name of CuPy's card; skips where there is none."""
    return open_backend("cupy").card


@pytest.fixture(scope="module")
def run_on_card(card, tmp_path_factory):
    """The report, as JSON and as text, of a run on a card of all but torch.compile."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    done = bench(
        *("random", "--device", "cuda", "--samples", str(SAMPLES), "--rounds", str(ROUNDS)),
        *("--network", "article", "--activation", *ASKED, "--dtype", "float32"),
        *("--only", *ON_CARD, "--json", str(path)),
    )
    return json.loads(path.read_text(encoding="utf-8")), done.stdout


def test_contenders_on_a_card(run_on_card):
    """CuPy's three run; PyTorch and JAX do, or are left out with the reason."""
    report, text = run_on_card
    for case in report["cases"]:
        assert case["failed"] == {}
        assert set(case["contenders"]) >= WITH_CUPY
        assert set(case["contenders"]) | set(case["skip"]) == set(ON_CARD)
        for name, reason in case["skip"].items():
            assert f"{name} left out (2 of 2 rows): {reason}." in text


def test_card_is_named(run_on_card, card):
    report, text = run_on_card
    assert (report["machine"]["device"], report["machine"]["card"]) == ("cuda", card)
    assert f"device cuda ({card})" in text.splitlines()[0]


def test_times_on_a_card(run_on_card):
    """Events measure the same span as the wall clock, and in seconds too."""
    report, _ = run_on_card
    for case in report["cases"]:
        for name, found in case["contenders"].items():
            assert len(found["wall"]) == ROUNDS
            if name in ("xpnn-jax", "jax"):
                assert "events" not in found
                continue
            ratios = np.divide(found["events"], found["wall"])
            assert ratios.shape == (ROUNDS,)
            assert 0.1 < np.median(ratios) < 10


def test_losses_on_a_card(run_on_card):
    report, _ = run_on_card
    for case in report["cases"]:
        for name in set(case["contenders"]) - {"floor"}:
            found = case["contenders"][name]["loss"]
            np.testing.assert_allclose(found, case["reference_loss"], rtol=1e-4, err_msg=name)


def test_tables_on_a_card(run_on_card):
    report, text = run_on_card
    with_events = [name for name in ON_CARD if name not in ("xpnn-jax", "jax")]
    tables = tables_of(text)
    assert [len(table) for table in tables] == [2 + len(ASKED)] * 4
    for table, names in zip(tables[:2], (with_events, ON_CARD), strict=True):
        assert table[0] == "| network | samples | " + " | ".join(names) + " |"
    events, wall = (table[0].strip("| ").split(" | ") for table in tables[2:])
    others = [f"xpnn-cupy / {name}" for name in ("cupy", "torch", "jax", "floor")]
    assert {others[0], others[1], others[3]} <= set(events)
    assert set(others) <= set(wall)
    assert "CPU time" not in text
    for case, row in zip(report["cases"], tables[2][2:], strict=True):
        _, middle, _ = case["ratios"]["xpnn-cupy / cupy"]["events"]
        assert f"| {middle:.2f} (" in row


@pytest.mark.parametrize("activation", ["relu", "swish", "h_swish", "mish", "tanhexp"])
def test_by_hand(contenders, activation):
    """The reference's activations are xpnn's, and their derivatives difference quotients."""
    u = np.array([-40.0, -3.5, -2.9, -1.0, -0.1, 0.1, 1.0, 2.9, 3.5, 15.0, 40.0])
    z, slope = contenders.BY_HAND[activation](u)
    h = 1e-6
    ahead, behind = (contenders.BY_HAND[activation](u + s * h)[0] for s in (1, -1))
    # error of the quotient: h² f''' / 6 < 1e-12, and rounding 40 eps / h = 1e-8
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=0, atol=2e-8)
    from xpnn.activations import ACTIVATIONS

    ours, pullback = ACTIVATIONS[activation](u)
    np.testing.assert_allclose(z, ours, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slope, pullback(np.ones_like(u)), rtol=1e-12, atol=1e-15)


def small(contenders, activation, dtype="float64"):
    return contenders.Case(
        network="article",
        sizes=(784, 100, 50, 10),
        batch=100,
        samples=SAMPLES,
        activation=activation,
        dtype=dtype,
        epochs=2,
        data="random",
    )


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("activation", ["relu", "swish", "h_swish", "mish", "tanhexp"])
def test_float64_losses(contenders, name, activation):
    """In float64 eight steps leave every contender the same running losses."""
    if missing(name):
        pytest.skip(f"{LIBRARY[name]} is not installed")
    if name == "sklearn" and activation != "relu":
        pytest.skip("scikit-learn has ReLU alone")
    case = small(contenders, activation)
    reference, found = contenders.Losses(), contenders.Losses()
    contenders.train_numpy(case, reference)
    contenders.CONTENDERS[name](case, found)
    assert len(found.losses) == case.epochs
    np.testing.assert_allclose(found.losses, reference.losses, rtol=1e-12)


@pytest.mark.parametrize("name", ["xpnn-cupy", "cupy"])
@pytest.mark.parametrize("activation", ["relu", "swish", "h_swish", "mish", "tanhexp"])
def test_float64_losses_on_a_card(contenders, card, name, activation):
    case = small(contenders, activation)
    reference, found = contenders.Losses(), contenders.Losses()
    contenders.train_numpy(case, reference)
    contenders.CONTENDERS[name](dataclasses.replace(case, device="cuda"), found)
    np.testing.assert_allclose(found.losses, reference.losses, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_loss_is_seen(dtype, contenders, monkeypatch):
    """A rate that is 0.1 % off shows in the losses' difference, by far."""
    # as many steps as it takes in float32
    case = dataclasses.replace(small(contenders, "relu"), samples=6000)
    right, wrong = contenders.Losses(), contenders.Losses()
    contenders.train_numpy(case, right)
    case = dataclasses.replace(case, dtype=dtype)
    monkeypatch.setattr(contenders, "RATE", 0.1001)
    contenders.train_numpy(case, wrong)
    epochs_script = importlib.import_module("epochs")
    epochs = [{"wall": 1.0, "cpu": 1.0, "loss": loss, "accuracy": 0.5} for loss in wrong.losses]
    found = epochs_script.summary(epochs, right.losses, epochs_script.HELD[dtype])
    measured = {"dtype": dtype, "contenders": {"it": found}}
    assert [name for name, _ in epochs_script.wrong_losses(measured)] == ["it"]


def test_profile():
    text = bench(
        *("random", "--samples", "200", "--network", "article", "--profile"),
        *("--activation", "relu", "--dtype", "float32"),
    ).stdout
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| ")]
    products = {row[1]: int(row[2]) for row in rows if row[0] == "| matmul"}
    assert sum(products.values()) == 8
    assert {"float32 784x100", "float32 100x100", "float32 100x10"} <= products.keys()
    assert rows[-1][:1] == ["| all"]
    assert int(rows[-1][1].strip("| ")) == sum(int(row[2]) for row in rows[1:-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("random", "--samples", "150", "--network", "article"), "must be a multiple of 100"),
        (("random", "--rounds", "0"), "must be >= 1, got 0"),
        (("no/folder",), "no folder no/folder"),
        (("random", "--json", "no/folder/x.json"), "there is no folder"),
        (("random", "--device", "cuda", "--only", "numpy"), "numpy can't run on cuda"),
        (("random", "--device", "gpu"), "must be cpu, cuda or such as cuda:1, got 'gpu'"),
        (("random", "--device", "cuda:99"), "no library has a device 'cuda:99' here: "),
    ],
)
def test_mistakes_cost_one_line(arguments, text):
    done = bench(*arguments, code=2)
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_interrupt():
    """Ctrl-C in a terminal reaches all processes: 130 and no traceback."""
    arguments = ["random", "--samples", "1000", "--rounds", "1000", "--network", "article"]
    arguments += ["--activation", "relu", "--dtype", "float32", "--only", "xpnn-numpy", "floor"]
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "epochs.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    ) as running:
        begun = running.stderr.readline()
        assert begun.startswith("bench: 1 of 1")
        os.killpg(running.pid, signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert (stdout, stderr) == ("", "bench: interrupted\n")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("long_runs", ("nowhere",)),
        ("long_runs", ("random", "--epochs", "9")),
        ("scale", ("--rounds", "1")),
        ("scale", ("--backend", "numbers")),
        ("scale", ("--folder", "/nowhere/at/all", "--part", "flat")),
        ("start", ("--rounds", "0")),
    ],
)
def test_mistakes_of_the_other_benchmarks_cost_one_line(script, arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{script}"), done.stderr
