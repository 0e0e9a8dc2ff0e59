"""What the tests of the demo share."""

from __future__ import annotations

import pytest
from hush_command import Hush


@pytest.fixture
def hush() -> Hush:
    return Hush()
