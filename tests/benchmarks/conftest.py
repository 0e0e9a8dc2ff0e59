"""The benchmarks are part of the checkout, not of the wheel: found behind everything that is installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
