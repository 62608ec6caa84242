"""A step that can't be recorded says why: in the log, and in the history's settings."""

import itertools
import logging

import array_api_compat.numpy as xp
import numpy as np
import pytest

import xpnn
from xpnn import recording
from xpnn.backends import NumpyBackend

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 6)).astype(np.float32), RNG.integers(0, 3, 40)


class OwnLayer(xpnn.layers.Layer):
    """A factor of all features, which each layer here finds in a way of its own."""

    kind = "own"

    def config(self):
        return {}

    def forward(self, parameters, x, *, xp):
        factor = self.factor(x, xp)

        def pullback(dy, input_gradient=True):
            return dy * factor if input_gradient else None, {}

        return x * factor, pullback

    def factor(self, x, xp):
        raise NotImplementedError


class Number(OwnLayer):
    def factor(self, x, xp):
        return 1.0 + abs(float(x[0, 0]))


class Method(OwnLayer):
    def factor(self, x, xp):
        return 2.0 if x.sum() > 0 else 1.0


class Numpys(OwnLayer):
    def factor(self, x, xp):
        return np.linalg.norm(x)


class Random(OwnLayer):
    def factor(self, x, xp):
        return np.random.random_sample(x.shape).astype(np.float32)


class Counting(OwnLayer):
    def __init__(self):
        self.calls = itertools.count(1)

    def factor(self, x, xp):
        return 1.0 / next(self.calls)


class Helped(OwnLayer):
    def factor(self, x, xp):
        return helper(x)


def helper(x):
    return int(x[0, 0]) + 1


class Index(OwnLayer):
    def factor(self, x, xp):
        return (1, 2, 1, 2, 1)[xp.argmax(x[0, :])]


class Masked(OwnLayer):
    def factor(self, x, xp):
        return xp.max(x[x > 0])


class Reduced(OwnLayer):
    def factor(self, x, xp):
        return np.maximum.reduce(np.abs(x), axis=None)


REASONS = {
    Number: "float() needs the value of an array, in Number.factor (test_reasons.py, line {}: "
    "return 1.0 + abs(float(x[0, 0]))), called by OwnLayer.forward",
    Method: "AttributeError: an array of the array API has no attribute 'sum', in Method.factor "
    "(test_reasons.py, line {}: return 2.0 if x.sum() > 0 else 1.0), called by OwnLayer.forward",
    Numpys: "an array was handed to a function outside of the array API, in Numpys.factor "
    "(test_reasons.py, line {}: return np.linalg.norm(x)), called by OwnLayer.forward",
    Random: "recordings of the step differ, first by multiply, in OwnLayer.forward "
    "(test_reasons.py, line {}: return x * factor, pullback)",
    Counting: "recordings of the step differ, first by multiply, in OwnLayer.forward "
    "(test_reasons.py, line {}: return x * factor, pullback)",
    Helped: "int() needs the value of an array, in helper (test_reasons.py, line {}: "
    "return int(x[0, 0]) + 1), called by OwnLayer.forward",
    Index: "an index needs the value of an array, in Index.factor (test_reasons.py, line {}: "
    "return (1, 2, 1, 2, 1)[xp.argmax(x[0, :])]), called by OwnLayer.forward",
    Masked: "the shape of what a mask selects depends on values, in Masked.factor "
    "(test_reasons.py, line {}: return xp.max(x[x > 0])), called by OwnLayer.forward",
    Reduced: "numpy.maximum.reduce isn't in the array API, in Reduced.factor (test_reasons.py, "
    "line {}: return np.maximum.reduce(np.abs(x), axis=None)), called by OwnLayer.forward",
}


def reason_of(kind):
    """Return the reason of a layer, its line looked up by the source that it names."""
    source = REASONS[kind].partition("line {}: ")[2].partition(", called")[0].removesuffix(")")
    with open(__file__, encoding="utf-8") as file:
        (line,) = (i for i, text in enumerate(file, 1) if text.strip() == source)
    return REASONS[kind].format(line)


def trained(layer, epochs=2, **options):
    model = xpnn.Sequential(xpnn.Dense(5), layer, xpnn.Dense(3))
    options = {"validation": (X, Y), "batch_size": 8, "seed": 1, **options}
    return model, xpnn.fit(model, (X, Y), epochs=epochs, **options)


@pytest.fixture
def lines(caplog):
    """What is logged of recorded steps, with the levels."""
    caplog.set_level(logging.INFO, logger="xpnn.recording")

    def found():
        return [
            (record.levelname, record.getMessage())
            for record in caplog.records
            if record.name == "xpnn.recording"
        ]

    return found


@pytest.mark.parametrize("kind", list(REASONS), ids=lambda kind: kind.__name__)
def test_a_layer_that_can_not_be_recorded(kind, lines):
    _, history = trained(kind())
    reason = reason_of(kind)
    assert history.settings["not_recorded"] == reason
    # once each, however many steps there are; two evaluations are too few to see that they differ
    steps = ["TrainingStep"] if "differ" in reason else ["EvaluationStep", "TrainingStep"]
    assert sorted(lines()) == [
        ("WARNING", f"{step} can't be recorded and runs more slowly: {reason}") for step in steps
    ]


class Condition(OwnLayer):
    def factor(self, x, xp):
        if xp.sum(x) > 0:
            return 2.0
        return 1.0


def test_a_condition_is_checked_and_a_step_where_it_differs_is_told_of(lines):
    _, history = trained(Condition())
    assert "not_recorded" not in history.settings
    source = "if xp.sum(x) > 0:"
    with open(__file__, encoding="utf-8") as file:
        line = next(i for i, text in enumerate(file, 1) if text.strip() == source)
    assert ("INFO", "TrainingStep runs more slowly in some steps: a condition isn't what it was in "
            f"the recorded one, in Condition.factor (test_reasons.py, line {line}: {source}"
            "), called by OwnLayer.forward") in lines()  # fmt: skip
    assert {level for level, _ in lines()} == {"INFO"}
    assert len(lines()) <= 2


class Fine(OwnLayer):
    def factor(self, x, xp):
        return 1.0 + xp.max(xp.abs(x))


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_layer_that_is_recorded_says_nothing(reproducible, lines):
    _, history = trained(Fine(), reproducible=reproducible)
    assert "not_recorded" not in history.settings
    assert not lines()


def test_reproducible_steps_name_the_users_line_too(lines):
    _, history = trained(Number(), reproducible=True)
    assert "Number.factor (test_reasons.py, line " in history.settings["not_recorded"]
    assert "TrainingStep" in str(lines())


def test_a_library_that_records_nothing_says_nothing(lines):
    pytest.importorskip("array_api_strict")
    _, history = trained(Number(), backend="strict")
    assert "not_recorded" not in history.settings
    assert not lines()


def test_an_evaluation_alone(lines):
    class Trained(Fine):
        def forward(self, parameters, x, *, xp):
            float(x[0, 0])
            return super().forward(parameters, x, xp=xp)

        def train(self, parameters, buffers, x, key, *, xp):
            return (*super().forward(parameters, x, xp=xp), buffers)

    _, history = trained(Trained())
    assert "float() needs the value" in history.settings["not_recorded"]
    ((_, line),) = lines()
    assert line.startswith("EvaluationStep can't be recorded")


def test_an_error_of_the_step_is_raised_and_not_told_as_a_reason(lines):
    class Wrong(OwnLayer):
        def factor(self, x, xp):
            return xp.ones((7, 7))

    with pytest.raises(ValueError, match="broadcast"):
        trained(Wrong())
    assert not lines()


def test_a_resumed_run_may_have_another_reason(tmp_path):
    """The reason is no setting that a run is asked for."""
    path = tmp_path / "run.ckpt"
    whole, _ = trained(Number(), epochs=3)
    trained(Number(), epochs=2, callbacks=[xpnn.callbacks.Checkpoint(path)])
    model, history = trained(Number(), epochs=3, resume=path)
    assert model.sha256() == whole.sha256()
    assert history.settings["not_recorded"] == reason_of(Number)


def test_steps_of_ones_own():
    """Each reason that isn't an operation's."""
    namespace = recording.recording_namespace(xp)

    def reason(step, *carry):
        fold = recording.Fold(step, namespace)
        fold(tuple(np.array(array) for array in carry), np.zeros((5, 1), int))
        return fold.reason

    one, square = np.ones(2), np.ones((3, 3))

    expected = {
        "the step changes the structure of its carry": (lambda c, r: ([*c], ()), one),
        "the step changes the shape or dtype of its carry": (lambda c, r: ((c[0] > 0,), ()), one),
        "the step returns something other than an array it computed": (
            lambda c, r: (c, (np.float64(1.0),)),
            one,
        ),
        "the step returns an array that it was given as an output": (
            lambda c, r: (c, (c[0][..., 0],)),
            one,
        ),
        "the step returns one array twice in its carry": (
            lambda c, r: ((c[0] + 1.0,) * 2, ()),
            *(one, one),
        ),
        "the step returns a given array at another position of its carry": (
            lambda c, r: (c[::-1], ()),
            *(one, one),
        ),
        "the step changes the order of axes of its carry": (
            lambda c, r: ((c[0].T * 2.0,), ()),
            square,
        ),
    }
    for text, (step, *carry) in expected.items():
        assert reason(step, *carry) == text
    assert reason(lambda c, r: (c, ()), one) is None


def test_programs_of_other_forms_are_still_played():
    """A step that is given up for one batch's shape was sure of another one."""
    calls = []

    def step(carry, row):
        calls.append(row.shape)
        if row.shape == (3,):
            float(carry[0][0])
        (w,) = carry
        w += 1.0
        return (w,), ()

    fold = recording.Fold(step, recording.recording_namespace(xp))
    carry, _ = fold((np.zeros(2),), np.zeros((4, 2), int))
    carry, _ = fold(carry, np.zeros((4, 3), int))
    assert fold.reason is not None
    calls.clear()
    carry, _ = fold(carry, np.zeros((4, 2), int))
    assert not calls
    assert np.array_equal(carry[0], [12.0, 12.0])


def test_fit_asks_a_backend_that_may_know_no_reasons():
    class Plain(NumpyBackend):
        def fold(self, step):
            return super(NumpyBackend, self).fold(step)

    _, history = trained(Number(), backend=Plain())
    assert "not_recorded" not in history.settings
