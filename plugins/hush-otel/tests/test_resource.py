"""Who made the spans, as every export says it."""

from __future__ import annotations

import pytest

from hush_otel.config import read_options
from hush_otel.resource import to_resource


def test_a_service_has_a_name_and_no_instance_that_is_made_up() -> None:
    assert to_resource(read_options()) == {"service.name": "hush"}


def test_the_tracer_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=red,service.name=old,service.instance.id=i-1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert to_resource(read_options(resource={"team": "blue", "n": 1})) == {
        "service.name": "shop",
        "service.instance.id": "i-1",
        "team": "blue",
        "n": 1,
    }
    assert to_resource(read_options(service_name="cart"))["service.name"] == "cart"


def test_a_value_is_one_that_an_attribute_can_hold() -> None:
    found = to_resource(read_options(service_name="a\ud800", resource={"flag": True, "share": 0.5}))
    assert found == {"service.name": "a\\ud800", "flag": True, "share": 0.5}
