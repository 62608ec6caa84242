"""Run data-apis/array-api-tests, the standard's own tests, for the reproducible namespace.

    git clone --recurse-submodules https://github.com/data-apis/array-api-tests
    pip install pytest-json-report hypothesis ndindex
    python scripts/checks/standard_suite.py array-api-tests [--library torch] [--max-examples 10]

All other arguments go to pytest. What the namespace does in another way than the standard is of
three kinds:

- Complex numbers, and ``fft`` and ``imag`` with them, are refused: their tests are skipped.
- Numbers below ``finfo(...).smallest_normal`` have fewer digits. The suite leaves out IEEE 754's
  subnormal numbers for the same reason; here those below the namespace's own limit are replaced
  by the limit.
- Zero and NaN have no sign, because libraries differ in it: ``standard_suite.txt`` lists the tests
  that fail for that reason. One of them that passes is a failure, so the list is exact.
"""

import argparse
import functools
import math
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, settings, strategies

from xpnn import reproducible

EXCEPTIONS = Path(__file__).with_suffix(".txt")
# Without complex dtypes the suite can't be collected as it is: what is replaced, and by what
CHANGES = (
    ("dtype_helpers.py", "in complex_dtypes], key", "in complex_dtypes] or [(None, 0)], key"),
    ("test_signatures.py", "dh.dtype_to_name[dh.widest_complex_dtype]", '"complex128"'),
)  # fmt: skip
# where Hypothesis keeps the settings of a test; the suite itself writes it
SETTINGS = "_hypothesis_internal_use_settings"
COMPLEX = re.compile(r"\[fft-|[\[-]imag\]|test_vecdot_conj")


def prepared(checkout: Path, folder: Path) -> Path:
    """Return a copy of the suite that can be collected without complex dtypes."""
    suite = folder / "array-api-tests"
    shutil.copytree(checkout, suite, ignore=shutil.ignore_patterns(".git"))
    for name, old, new in CHANGES:
        path = suite / "array_api_tests" / name
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"{name} of this version of the suite has no {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")
    return suite


def with_full_digits(floats, smallest):
    """Return a strategy of floats without numbers that have fewer digits than others."""

    @functools.wraps(floats)
    def limited(*args, **kwargs):
        least = smallest[kwargs.get("width", 64)]
        return floats(*args, **kwargs).map(
            lambda x: math.copysign(least, x) if 0.0 < abs(x) < least else x
        )

    return limited


class Exceptions:
    """A plugin of pytest for tests of what is refused, and for tests that are expected to fail."""

    def pytest_collection_modifyitems(self, items):
        reason = pytest.mark.skip(reason="complex numbers are refused")
        for item in items:
            case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
            if getattr(case, "is_complex", False) or COMPLEX.search(item.nodeid):
                item.add_marker(reason)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        test = getattr(item.obj, "__func__", item.obj)
        own = getattr(test, SETTINGS, None)
        if own is None or item.get_closest_marker("xfail") is None:
            return (yield)
        # a smaller example of an expected failure is of no use, and looking for it takes most of
        # the suite's time
        setattr(test, SETTINGS, settings(own, phases=(Phase.explicit, Phase.generate)))
        try:
            return (yield)
        finally:
            setattr(test, SETTINGS, own)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--library", default="numpy")
    parser.add_argument("--max-examples", type=int, default=10)
    args, others = parser.parse_known_args()
    xp = reproducible.namespace(args.library)
    xp.__name__ = "reproducible_namespace"
    sys.modules[xp.__name__] = xp
    os.environ |= {
        "ARRAY_API_TESTS_MODULE": xp.__name__,
        "ARRAY_API_TESTS_VERSION": xp.__array_api_version__,
        "ARRAY_API_TESTS_SKIP_DTYPES": "complex64,complex128",
    }

    smallest = {bits: xp.finfo(getattr(xp, f"float{bits}")).smallest_normal for bits in (32, 64)}
    strategies.floats = with_full_digits(strategies.floats, smallest)
    with tempfile.TemporaryDirectory() as folder:
        suite = prepared(args.checkout, Path(folder))
        sys.path.insert(0, str(suite))
        os.chdir(suite)
        return pytest.main(
            [
                "array_api_tests", "-q", "-p", "no:cacheprovider", "-o", "xfail_strict=True",
                "--disable-deadline", "--derandomize", "--max-examples", str(args.max_examples),
                "--xfails-file", str(EXCEPTIONS), *others,
            ],
            plugins=[Exceptions()],
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
