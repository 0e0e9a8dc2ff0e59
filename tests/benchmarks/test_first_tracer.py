"""That the benchmark of the first `get_tracer` measures a tracer of a plugin, and notices a vendor."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import first_tracer
from benchmarks.session import QUICK, Session


def test_it_gives_one_figure_with_its_budget(tmp_path: Path) -> None:
    [result] = first_tracer.measure(Session(tmp_path, QUICK))
    assert result.measured is not None and result.measured.value > 0
    assert result.budget is not None and result.budget.limit == 15.0


def test_a_vendor_that_is_imported_in_the_app_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rude = first_tracer._PLUGIN["hush_langfuse/tracer.py"]
    files = {"hush_langfuse/tracer.py": f"import langfuse\n{rude}", "langfuse.py": ""}
    monkeypatch.setattr(first_tracer, "_PLUGIN", {**first_tracer._PLUGIN, **files})
    with pytest.raises(RuntimeError, match="imported the vendor's library"):
        first_tracer.measure(Session(tmp_path, QUICK))
