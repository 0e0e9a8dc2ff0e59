"""Our table of Langfuse's names is that of the Langfuse package which is installed."""

from __future__ import annotations

from typing import get_args

from langfuse import LangfuseOtelSpanAttributes
from langfuse._client.constants import LANGFUSE_TRACER_NAME, ObservationTypeLiteral, get_observation_types_list
from langfuse.api import MediaContentType
from langfuse.types import SpanLevel

from hush_langfuse import convention
from hush_langfuse.media import CONTENT_TYPES


def test_every_attribute_is_called_as_langfuse_calls_it() -> None:
    ours = {name: value for name, value in vars(convention).items() if name.isupper() and isinstance(value, str)}
    assert ours.pop("SCOPE") == LANGFUSE_TRACER_NAME
    assert ours == {name: getattr(LangfuseOtelSpanAttributes, name) for name in ours}


def test_every_type_of_observation_is_one_of_langfuses_and_all_of_these_can_be_had() -> None:
    langfuses = set(get_observation_types_list(ObservationTypeLiteral))
    assert set(convention.TYPE_OF.values()) == langfuses
    assert all(convention.TYPE_OF[kind] == kind for kind in langfuses)


def test_every_level_is_one_of_langfuses() -> None:
    assert {*convention.LEVEL_OF.values(), "DEFAULT"} == set(get_args(SpanLevel))


def test_every_type_of_media_is_one_that_langfuse_takes() -> None:
    assert {each.value for each in MediaContentType} == CONTENT_TYPES
