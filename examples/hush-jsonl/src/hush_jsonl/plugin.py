"""What hush finds through the entry point: the hooks of this plugin, each handed on to a module of its own.

It is loaded by the `hush` command, by delivery processes and by an app that asks for a tracer by name, so it
imports nothing itself: what a hook needs is imported when hush calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hush_core import hookimpl

if TYPE_CHECKING:
    import click

    from hush_core import FlushData


@hookimpl
def hush_register_tracers(register: Callable[..., None]) -> None:
    register("jsonl", "hush_jsonl.tracer:JsonLinesTracer", summary="Lines of JSON, in a file or posted to a URL")


@hookimpl
def hush_register_commands(cli: click.Group) -> None:
    from hush_jsonl.command import jsonl

    cli.add_command(jsonl)


@hookimpl
def hush_mask(record: dict[str, Any]) -> dict[str, Any]:
    from hush_jsonl.address import mask_addresses

    masked: dict[str, Any] = mask_addresses(record)
    return masked


@hookimpl
def hush_before_flush(tracer_name: str, flush_data: FlushData) -> bool | None:
    from hush_jsonl.privacy import is_private

    return False if is_private(flush_data) else None  # False drops the request, None leaves it as it is


@hookimpl
def hush_after_flush(tracer_name: str, request_id: str, outcome: str) -> None:
    from hush_jsonl.tally import count

    count(tracer_name, outcome)
