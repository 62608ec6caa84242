import pytest

import xpnn
from xpnn._core import deprecation


@pytest.fixture
def function(monkeypatch):
    monkeypatch.setattr(deprecation, "DEPRECATED", [])

    @deprecation.renamed("step", "lr", since=(0, 3))
    def train(x, *, lr=1):
        """Train."""
        return x, lr

    return train


def test_an_old_name_works_and_says_until_when(function):
    with pytest.warns(
        DeprecationWarning, match=r"step of .*train\(\) is now lr; xpnn 0\.5 no"
    ) as w:
        assert function(1, step=2) == (1, 2)
    assert w[0].filename == __file__
    assert function(1, lr=2) == (1, 2)
    assert function(1) == (1, 1)
    assert function.__doc__ == "Train."


def test_both_names_at_once_are_refused(function):
    with pytest.raises(TypeError, match="got 'lr' also by its old name, 'step'"):
        function(1, step=2, lr=2)


def test_a_function_and_a_class_that_go_say_what_comes_instead(monkeypatch):
    monkeypatch.setattr(deprecation, "DEPRECATED", [])

    @deprecation.deprecated("xpnn.fit", since=(0, 3))
    def train(x, *, lr=1):
        """Train."""
        return x, lr

    @deprecation.deprecated("xpnn.SGD", since=(1, 0))
    class Descent:
        def __init__(self, lr):
            self.lr = lr

    with pytest.warns(DeprecationWarning, match=r"train gives way to xpnn\.fit; xpnn 0\.5 is") as w:
        assert train(1, lr=2) == (1, 2)
    assert w[0].filename == __file__
    assert train.__doc__ == "Train."
    with pytest.warns(DeprecationWarning, match=r"Descent gives way to xpnn\.SGD; xpnn 1\.2") as w:
        assert Descent(3).lr == 3
    assert w[0].filename == __file__
    assert isinstance(Descent, type)
    assert [entry[1:] for entry in deprecation.DEPRECATED] == [("", (0, 5)), ("", (1, 2))]


def overdue(deprecated, version):
    major, minor, *_ = map(int, version.split("."))
    return [entry for entry in deprecated if entry[2] <= (major, minor)]


def test_what_is_overdue_is_seen(function):
    (entry,) = deprecation.DEPRECATED
    assert entry[1:] == ("step", (0, 5))
    assert overdue([entry], "0.4.9") == []
    assert overdue([entry], "0.5.0") == [entry]


def test_nothing_deprecated_is_overdue():
    for name in xpnn.__all__:
        if name != "estimators":
            getattr(xpnn, name)
    assert overdue(deprecation.DEPRECATED, xpnn.__version__) == []
