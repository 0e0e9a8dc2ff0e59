"""The plugin: its hooks, and nothing else."""

from __future__ import annotations

from typing import Any

from hush_core import hookimpl


@hookimpl
def hush_register_tracers(register: Any) -> None:
    register("vendor", "hush_vendor.tracer:VendorTracer", summary="A vendor's cloud")


@hookimpl
def hush_register_commands(cli: Any) -> None:
    import click

    @cli.command(short_help="Say hello from the vendor.")
    @click.option("--loud", is_flag=True)
    def greet(loud: bool) -> None:
        click.echo("HELLO" if loud else "hello")


@hookimpl
def hush_mask(record: dict[str, Any]) -> None:
    record["masked_by"] = "vendor"


@hookimpl
def hush_before_flush(tracer_name: str, flush_data: dict[str, Any]) -> Any:
    if "private" in flush_data["tags"]:
        return False
    return {**flush_data, "seen_by": tracer_name}


@hookimpl
def hush_after_flush(request_id: str, outcome: str) -> None:
    from hush_vendor import tracer

    tracer.OUTCOMES.append((request_id, outcome))
