"""Fixtures of the tests of `xpnn.testing`."""

import pytest

from tests.helpers import BACKEND_NAMES, open_backend


@pytest.fixture(params=BACKEND_NAMES)
def name(request):
    """Each backend that is installed."""
    open_backend(request.param)
    return request.param
