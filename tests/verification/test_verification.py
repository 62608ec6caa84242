"""`verify`: runs of several backends, bit by bit, and traces of what each of them computed."""

import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from tests.helpers import MNIST, ROOT, environment, open_backend
from xpnn import reproducible, verification
from xpnn._core.scopes import scope
from xpnn.backends import BACKENDS, get_backend
from xpnn.cli import main
from xpnn.settings import Settings
from xpnn.verification import (
    Canonical,
    Difference,
    Verification,
    as_json,
    generated,
    run_canonical,
    usable_backends,
    verify,
)
from xpnn.verification.tracing import Trace, TracedBackend, trace_of

DATA = generated(samples=80, features=6, classes=3)
SETTINGS = Settings(
    hidden="5,4", activation="tanhexp", optimizer="nesterov", epochs=2, batch_size=16, seed=3
)
# 60 training samples: three whole batches and a smaller one
BATCHES = 4


def test_generated_data_are_alike_on_every_platform():
    train, test = generated()
    assert (train.x.shape, test.x.shape) == ((1500, 64), (500, 64))
    assert (train.x.dtype, train.y.dtype.kind) == (np.float32, "i")
    assert set(train.y) == set(range(10))
    pixels = train.x.astype(np.float64) * 255
    np.testing.assert_allclose(pixels, np.rint(pixels), rtol=0, atol=2e-5)
    np.testing.assert_array_equal(generated()[0].x, train.x, strict=True)


def test_generated_data_can_be_learnt():
    settings = Settings(hidden="20", epochs=10, batch_size=50)
    model = settings.make_model(*generated())
    history = settings.fit(model, *generated(), backend=get_backend())
    assert history[-1].test_accuracy > 0.7 > 0.3 > history[0].test_accuracy


# op by op, JAX compiles each operation for each shape: SMALL has fewer of both
SMALL = Settings(hidden="5", epochs=2, batch_size=20, seed=3)


@pytest.mark.parametrize(
    ("dtype", "settings", "left_out"),
    [("float32", SMALL, ()), ("float64", SMALL, ()), ("float64", SETTINGS, ("jax",))],
)
def test_reproducible_runs_agree(dtype, settings, left_out):
    backends = usable_backends(dtype=dtype, reproducible=True)
    backends = [backend for backend in backends if backend.name not in left_out]
    assert len(backends) > 1
    found = verify(settings, *DATA, backends)
    assert found.agree
    assert found.parted is None
    assert list(found.hashes) == [backend.name for backend in backends]
    assert found.differences == [Difference(0.0, 0.0)] * 3
    # an epoch changes the weights, and the hashes are those of a plain run
    model = settings.make_model(*DATA)
    settings.fit(model, *DATA, backend=get_backend(dtype=dtype, reproducible=True))
    hashes = found.hashes["numpy"]
    assert len(set(hashes)) == 3
    assert hashes[-1] == model.sha256()


def test_native_runs_differ_and_say_how_far():
    pytest.importorskip("torch")
    found = verify(SETTINGS, *DATA, usable_backends(["numpy", "torch"], dtype="float64"))
    assert not found.agree
    first, *others = found.differences
    assert first == Difference(0.0, 0.0)
    for absolute, relative in others:
        assert 0 < absolute < 1e-10
        assert 0 < relative < 1e-8
    assert re.fullmatch(
        r"numpy and torch differ first at epoch 1, step 1, \w+( \w+)?, \w+", found.parted
    )


def test_differences_are_the_largest_of_all_backends():
    reference = {"0.weight": np.array([[1.0, -4.0]]), "0.bias": np.array([0.0])}
    near = {"0.weight": np.array([[1.0, -4.5]]), "0.bias": np.array([0.0])}
    far = {"0.weight": np.array([[2.0, -4.0]]), "0.bias": np.array([0.25])}
    assert verification.compare.difference(reference, [near]) == Difference(0.5, 0.5 / 4.5)
    assert verification.compare.difference(reference, [near, far]) == Difference(1.0, 1.0)
    assert verification.compare.difference(reference, []) == Difference(0.0, 0.0)


def test_agree_looks_at_every_epoch():
    same = {"numpy": ["a", "b"], "torch": ["a", "b"]}
    assert Verification(same, [], None).agree
    assert not Verification({**same, "jax": ["c", "b"]}, [], "…").agree


class Wrong(reproducible.Namespace):
    """A namespace whose sums over a batch are some ulps too large from the nth of a run on."""

    def __init__(self, xp, right):
        super().__init__(xp)
        self.right, self.calls = right, 0

    def sum(self, x, /, *, axis=None, **options):
        result = super().sum(x, axis=axis, **options)
        if axis == 0 and x.ndim == 2:
            # the gradients of the biases, and nothing else
            self.calls += 1
            if self.calls > self.right:
                result = result * (1 + 2.0**-44)
        return result


def wrong(name, right, kind=Wrong):
    """Return a backend that goes wrong after so many sums."""
    backend = open_backend(name).__class__(dtype="float64")
    backend = xpnn.backends.ReproducibleBackend(backend)
    backend.xp = kind(backend.inner.xp, right)
    begin = backend.random_state

    def random_state(seed):
        backend.xp.calls = 0
        return begin(seed)

    backend.random_state = random_state
    # a step that counts is none to be recorded
    backend.fold = lambda step: xpnn.backends.Backend.fold(backend, step)
    return backend


@pytest.mark.parametrize("name", ["torch", "strict"])
@pytest.mark.parametrize(
    ("step", "layer"), [(1, "dense3"), (1, "dense1"), (BATCHES, "dense2"), (BATCHES + 2, "dense3")]
)
def test_the_operation_that_is_off_is_named(name, step, layer):
    # from the last layer to the first, a sum per layer and step
    right = 3 * (step - 1) + ["dense3", "dense2", "dense1"].index(layer)
    backends = [get_backend(dtype="float64", reproducible=True), wrong(name, right)]
    found = verify(SETTINGS, *DATA, backends)
    epoch = 1 + (step - 1) // BATCHES
    assert not found.agree
    assert found.parted == (
        f"numpy and {name} differ first at epoch {epoch}, step {step}, {layer} backward, sum"
    )
    apart = [difference.absolute > 0 for difference in found.differences]
    assert apart == [i >= epoch for i in range(3)]


def test_a_backend_that_never_goes_wrong_agrees():
    backends = [get_backend(dtype="float64", reproducible=True), wrong("strict", 10**9)]
    assert verify(SETTINGS, *DATA, backends).agree


def test_other_initial_weights_are_named():
    class Other(BACKENDS["strict"]):
        def random_state(self, seed):
            return super().random_state(seed + 1)

    found = verify(SETTINGS, *DATA, [get_backend(dtype="float64"), Other(dtype="float64")])
    assert found.parted == "numpy and strict differ in the initial parameters"


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax"])
def test_a_traced_run_ends_with_the_same_weights(library, reproducible):
    # jitted, JAX may fuse what a traced run computes one by one
    tolerance = 1e-13 if library == "jax" and not reproducible else 0
    open_backend(library)
    place = get_backend(library, dtype="float64", reproducible=reproducible)
    settings = SMALL if library == "jax" else SETTINGS
    plain = settings.make_model(*DATA)
    settings.fit(plain, DATA[0], None, backend=place)

    model = settings.make_model(*DATA)
    settings.fit(model, DATA[0], None, backend=TracedBackend(place, Trace()))
    for layer, own in zip(plain.host_parameters(), model.host_parameters(), strict=True):
        assert set(layer) == set(own)
        for name in layer:
            np.testing.assert_allclose(own[name], layer[name], rtol=0, atol=tolerance, strict=True)


def test_a_traced_regression_has_whole_numbers_for_values():
    """The loss says whether targets are classes, and what outputs mean, of a traced run too."""
    x = np.arange(12.0).reshape(6, 2)
    y = np.array([0, 5, 2, 7, 1, 3])

    def trained(backend):
        model = xpnn.Sequential(xpnn.Dense(1))
        loss = xpnn.MeanSquaredError()
        history = xpnn.fit(model, (x, y), loss=loss, epochs=1, seed=1, backend=backend)
        return (
            model.task.classes,
            model.sha256(),
            history[-1].train_loss,
            xpnn.predict(model, x).tolist(),
        )

    backend = get_backend("strict", dtype="float64")
    assert trained(TracedBackend(backend, Trace())) == trained(backend)

    model = xpnn.Sequential(xpnn.Dense(3))
    xpnn.fit(model, (x, y % 3), epochs=1, seed=1, backend=TracedBackend(backend, Trace()))
    probabilities = xpnn.predict_proba(model, x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "strict", "torch"])
def test_a_traced_array_is_transposed_and_has_its_truth(library):
    backend, trace = open_backend(library), Trace()
    traced = TracedBackend(backend, trace)
    x = traced.asarray(np.array([[1.0, 2.0], [3.0, 4.0]]))
    with scope("own1", "forward"):
        product = x.T @ x
    np.testing.assert_array_equal(traced.to_numpy(product), [[10.0, 14.0], [14.0, 20.0]])
    assert [str(event) for event in trace.events] == ["step 0, own1 forward, matmul"]
    assert traced.xp.all(x > 0)
    assert not traced.xp.all(x > 1)


@pytest.mark.parametrize("library", ["numpy", "strict", "torch"])
def test_events_name_their_place(library):
    open_backend(library)
    backend = get_backend(library, dtype="float64", reproducible=True)
    events = trace_of(SETTINGS, DATA, backend, epochs=1).events
    assert sorted({event.step for event in events}) == list(range(1, BATCHES + 1))
    first = [event for event in events if event.step == 1]
    places = list(dict.fromkeys(event.place for event in first))
    assert places == [
        "data",
        *("dense1 forward", "tanhexp1 forward", "dense2 forward", "tanhexp2 forward"),
        *("dense3 forward", "loss", "accuracy", "dense3 backward", "tanhexp2 backward"),
        *("dense2 backward", "tanhexp1 backward", "dense1 backward", "optimizer"),
    ]
    assert "matmul" in {event.operation for event in first if event.place == "dense1 forward"}
    # the steps are alike, but for what they compute
    shape = [(event.place, event.operation) for event in first]
    second = [event for event in events if event.step == 2]
    assert [(event.place, event.operation) for event in second] == shape
    assert [event.digest for event in second] != [event.digest for event in first]


def test_traces_of_two_libraries_are_equal():
    open_backend("torch")
    numpys, torchs = (
        trace_of(SETTINGS, DATA, backend, epochs=2).events
        for backend in usable_backends(["numpy", "torch"], dtype="float64", reproducible=True)
    )
    assert len(numpys) > 100 * BATCHES
    assert numpys == torchs


# two steps and the squared errors are infinite
EXPLOSIVE = SETTINGS.replaced(
    activation="relu", optimizer="sgd:lr=1e60", loss="mean_squared_error", epochs=3
)


@pytest.mark.parametrize("reproducible", [True, False])
@pytest.mark.parametrize("library", ["strict", "torch"])
def test_backends_that_diverge_alike_agree(library, reproducible):
    open_backend(library)
    backends = usable_backends(["numpy", library], dtype="float64", reproducible=reproducible)
    found = verify(EXPLOSIVE, *DATA, backends)
    assert len(found.diverged) == 2
    for end in found.diverged.values():
        assert re.match(r"the loss became (inf|nan) at epoch [123], in batch \d", end)
    if reproducible:
        assert found.agree
        assert found.parted is None
        assert len(set(found.diverged.values())) == 1
    reached = min(len(own) for own in found.hashes.values())
    assert len(found.differences) == reached < 4


class Explosive(Wrong):
    """Sums over a batch are infinite from the nth of a run on."""

    def sum(self, x, /, *, axis=None, **options):
        result = super().sum(x, axis=axis, **options)
        return result / 0.0 if self.calls > self.right else result


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("step", [2, BATCHES + 2])
def test_a_backend_that_diverges_alone_is_a_difference(first, step):
    other = wrong("strict", 3 * (step - 1), Explosive)
    backends = [get_backend(dtype="float64", reproducible=True), other]
    backends = backends[::-1] if first else backends
    names = " and ".join(backend.name for backend in backends)
    found = verify(SETTINGS, *DATA, backends)
    epoch = 1 + (step - 1) // BATCHES
    assert not found.agree
    assert list(found.diverged) == ["strict"]
    assert found.parted.startswith(
        f"{names} differ first at epoch {epoch}, step {step}, dense3 backward, sum ("
    )
    assert f"strict: the loss became nan at epoch {epoch}, in batch 3" in found.parted
    assert "numpy: its loss is finite there" in found.parted
    assert len(found.hashes["strict"]) == len(found.differences) == epoch
    assert len(found.hashes["numpy"]) == 3


def test_backends_that_diverge_in_different_batches_differ():
    backends = [wrong("numpy", 0, Explosive), wrong("strict", 3, Explosive)]
    found = verify(SETTINGS, *DATA, backends)
    assert list(found.diverged) == ["numpy", "strict"]
    assert not found.agree
    assert found.parted.startswith("numpy and strict differ first at epoch 1, step 1, dense3 back")


def test_a_loss_that_diverges_before_the_first_step_is_named():
    other = wrong("strict", 10**9)
    other.xp.log = lambda x: x / 0.0
    found = verify(SETTINGS, *DATA, [get_backend(dtype="float64", reproducible=True), other])
    assert not found.agree
    assert found.parted.startswith("numpy and strict differ at epoch 0 (numpy: its loss is finite")
    assert "strict: the loss became nan at epoch 0, in the evaluation)" in found.parted
    assert found.differences == []


def test_usable_backends():
    names = [backend.name for backend in usable_backends()]
    assert names == [name for name in BACKENDS if name in names]
    assert {"numpy"} <= set(names)
    with pytest.raises(xpnn.ArgumentError, match="backends must be different ones, got numpy, num"):
        usable_backends(["numpy", "numpy"])
    with pytest.raises(xpnn.ArgumentError, match="unknown backend 'nunpy'; did you mean 'numpy'"):
        usable_backends(["numpy", "nunpy"])
    with pytest.raises(xpnn.ArgumentError, match="at least one, got none"):
        verify(SETTINGS, *DATA, [])


COMMAND = "verify --hidden 6 --epochs 2 --batch-size 250 --backends"


def test_the_command_shows_a_table(capsys):
    open_backend("strict")
    assert main([*COMMAND.split(), "numpy,strict"]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["epoch", "numpy", "strict", "agree"]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert all(row[1] == row[2] and row[3] == "yes" for row in rows)
    assert all(re.fullmatch("[0-9a-f]{16}", row[1]) for row in rows)
    assert len({row[1] for row in rows}) == 3


def test_the_command_shows_how_far_native_runs_part(capsys):
    open_backend("torch")
    assert main([*COMMAND.split(), "numpy,torch", "--native"]) == 1
    *table, parted = capsys.readouterr().out.splitlines()
    head, *rows = [line.split() for line in table]
    assert head == ["epoch", "numpy", "torch", "agree", "absolute", "relative"]
    assert rows[0][3:] == ["yes", "0", "0"]
    assert rows[1][1] != rows[1][2]
    assert rows[1][3] == "no"
    assert all(float(number) > 0 for number in rows[1][4:])
    assert parted.startswith("numpy and torch differ first at epoch 1, step 1, ")


def test_the_command_says_that_all_diverge_alike(capsys):
    options = "numpy,strict --optimizer sgd:lr=1e60 --loss mean_squared_error --dtype float64"
    assert main([*COMMAND.split(), *options.split()]) == 0
    *table, end = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in table[1:]]
    assert rows[0][3] == "yes"
    assert rows[-1][1:] == ["diverged", "diverged", "yes"]
    assert re.match("all diverge alike: the loss became (inf|nan) at epoch 1, in batch", end)


def test_the_command_shows_who_diverges(monkeypatch, capsys):
    backends = [get_backend(dtype="float64", reproducible=True), wrong("strict", 0, Explosive)]
    monkeypatch.setattr("xpnn.cli.verify.usable_backends", lambda names, **options: backends)
    assert main([*COMMAND.split(), "numpy,strict"]) == 1
    *table, parted = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in table[1:]]
    assert rows[0][3] == "yes"
    assert (rows[1][2], rows[1][3]) == ("diverged", "no")
    assert (len(rows[2]), rows[2][2]) == (3, "no")
    assert parted.startswith("numpy and strict differ first at epoch 1, step 1, dense2 backward,")

    # in different batches of one epoch
    backends = [wrong("numpy", 0, Explosive), wrong("strict", 3, Explosive)]
    assert main([*COMMAND.split(), "numpy,strict"]) == 1
    *_, last, parted = capsys.readouterr().out.splitlines()
    assert last.split() == ["1", "diverged", "diverged", "no"]
    assert parted.startswith("numpy and strict differ first at epoch 1, step 1, dense2 backward,")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("numpy,nunpy", "unknown backend 'nunpy'; did you mean 'numpy'?"),
        ("numpy,numpy", "backends must be different ones"),
        ("numpy --device cuda:0", "backend 'numpy' has no device 'cuda:0'"),
        ("numpy --activation rellu", "unknown activation 'rellu'; did you mean"),
        ("numpy --dtype float16", "unknown dtype 'float16'"),
    ],
)
def test_wrong_options_take_one_line(options, message, capsys):
    assert main([*COMMAND.split(), *options.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_the_command_holds_standard_runs_to_their_hashes(monkeypatch, capsys):
    run = Canonical("tiny", "generated", "float64", Settings(hidden="4", epochs=1))
    good = run_canonical(run, generated(), "numpy")
    hashes = good.hashes
    assert len(hashes) == len(good.log) == 2
    changed = good._replace(name="changed", hashes=(hashes[0], hashes[0]))
    elsewhere = good._replace(name="elsewhere", data="mnist")

    monkeypatch.setattr("xpnn.cli.verify.canonical_runs", lambda: [good, elsewhere])
    assert main(["verify", "--canonical", "--backends", "numpy"]) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["tiny", hashes[1][:16], "equal"]
    assert second.split() == ["elsewhere", hashes[1][:16], "needs", "MNIST"]

    monkeypatch.setattr("xpnn.cli.verify.canonical_runs", lambda: [good, changed])
    assert main(["verify", "--canonical", "--backends", "numpy"]) == 1
    assert "differs at epoch 1" in capsys.readouterr().out.splitlines()[2]

    longer = good._replace(hashes=(*hashes, "00"), log=(*good.log, "2"))
    monkeypatch.setattr("xpnn.cli.verify.canonical_runs", lambda: [longer])
    assert main(["verify", "--canonical", "--backends", "numpy"]) == 1
    assert "differs at epoch 2" in capsys.readouterr().out.splitlines()[1]

    # the log counts as much as the weights
    monkeypatch.setattr(
        "xpnn.cli.verify.canonical_runs", lambda: [good._replace(log=good.log[:1] * 2)]
    )
    assert main(["verify", "--canonical", "--backends", "numpy"]) == 1


@pytest.mark.parametrize("option", ["--native", "--dtype float64", "--hidden 5", "--epochs 2"])
def test_standard_runs_take_no_other_options(option, capsys):
    assert main(["verify", "--canonical", *option.split()]) == 2
    assert "canonical runs take no options" in capsys.readouterr().err


def test_a_loss_that_is_off_is_named_though_the_weights_agree():
    other = wrong("strict", 10**9)
    right = other.xp.log
    other.xp.log = lambda x: right(x) * (1 + 2.0**-40)
    found = verify(SETTINGS, *DATA, [get_backend(dtype="float64", reproducible=True), other])
    assert not found.agree
    assert found.parted.startswith("numpy and strict differ in the log: '0 ")
    assert found.parted.endswith("; first at epoch 1, step 1, loss, log")


def test_one_backend_is_nothing_to_compare(capsys):
    assert main([*COMMAND.split()[:1], "--backends", "numpy"]) == 2
    assert "backends must be two or more" in capsys.readouterr().err


def test_standard_runs_are_written_and_read(monkeypatch, tmp_path):
    runs = [
        Canonical(
            "a", "mnist", "float32", Settings(flood=0.01, epochs=1), ("0a", "1b"), ("0 1", "1 2")
        ),
        Canonical("b", "generated", "float64", Settings(), ("2c",), ("0 0",)),
    ]
    (tmp_path / "canonical.json").write_text(as_json(runs))
    monkeypatch.setattr(
        verification.canonical.importlib.resources, "files", lambda package: tmp_path
    )
    assert verification.canonical_runs() == runs


def matrix(results, *options):
    """Return what the matrix printed, how many runs it made, and its status."""
    command = [sys.executable, str(ROOT / "scripts" / "checks" / "reproducibility.py"), "matrix"]
    if not MNIST.exists():
        pytest.skip("needs MNIST, which the sdist doesn't hold")
    command += [str(MNIST), "--backends", "numpy,strict", "--samples", "200"]
    command += ["--results", str(results), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert "Traceback" not in done.stderr
    return done.stdout, len(done.stderr.splitlines()), done.returncode


def test_the_matrix_goes_on_where_it_stood_and_shows_what_differs(tmp_path):
    open_backend("strict")
    results = tmp_path / "runs" / "matrix.jsonl"
    options = ("--only", "optimizer sgd, weight", "--dtypes", "float64")
    table, made, status = matrix(results, *options)
    assert (made, status) == (2, 0)
    assert re.search(
        r"^\| optimizer sgd, weight decay 0.001 \| `[0-9a-f]{16}` \|$", table, re.MULTILINE
    )
    assert "1 of 1 runs agree in the weights and the log on numpy" in table
    # an interrupt in the middle of a line
    first, second = results.read_text().splitlines()
    results.write_text(f"{first}\n{second[:40]}")
    assert matrix(results, *options) == (table, 1, 0)
    assert results.read_text().count("\n") == 2
    # one digit of a log
    changed = json.loads(second)
    changed["log"][1] += "1"
    results.write_text(f"{first}\n{json.dumps(changed)}\n")
    table, made, status = matrix(results, *options)
    assert (made, status) == (0, 1)
    assert "DIFFER: numpy" in table
    assert "0 of 1 runs agree" in table


def test_the_matrix_has_a_row_for_every_part(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts" / "checks")
    rows = importlib.import_module("reproducibility").matrix_settings().values()
    for kind, registry in {
        "activation": xpnn.activations.ACTIVATIONS,
        "loss": xpnn.losses.LOSSES,
        "optimizer": xpnn.optimizers.OPTIMIZERS,
    }.items():
        assert {getattr(row, kind).partition(":")[0] for row in rows} == set(registry)
    for loss in xpnn.losses.LOSSES:
        assert {row.flood is None for row in rows if row.loss == loss} == {True, False}
    for optimizer in xpnn.optimizers.OPTIMIZERS:
        assert len({row.weight_decay for row in rows if row.optimizer == optimizer}) == 2
