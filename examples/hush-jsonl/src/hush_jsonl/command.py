"""`hush jsonl`: what such a file holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def jsonl(file: Path, as_json: bool) -> None:
    """Count the requests, nodes and tokens in a FILE that the jsonl tracer wrote.

    A request that was delivered more than once counts once. A line that is no request, such as one that was cut when
    its process was killed, is counted apart.
    """
    with file.open("rb") as lines:
        counts = count_lines(lines)
    if as_json:
        click.echo(json.dumps(counts))
    else:
        click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))


def count_lines(lines: Iterable[bytes]) -> dict[str, int]:
    """What the lines hold, by name: requests, nodes, tokens, and unreadable lines."""
    counts = {"requests": 0, "nodes": 0, "tokens": 0, "unreadable": 0}
    seen = set()
    for line in lines:
        try:
            request = json.loads(line)
            request_id, nodes = request["request_id"], request["nodes"]
        except (KeyError, TypeError, ValueError):
            counts["unreadable"] += 1
            continue
        if request_id not in seen:
            seen.add(request_id)
            counts["requests"] += 1
            counts["nodes"] += len(nodes)
            counts["tokens"] += sum(map(_own_tokens, nodes))
    return counts


def _own_tokens(node: dict[str, Any]) -> int:
    """The tokens of a node; none of one that hush made to group an iteration, which has the sum of those in it."""
    return 0 if node["node_type"] == "iteration" else node["total_tokens"] or 0
