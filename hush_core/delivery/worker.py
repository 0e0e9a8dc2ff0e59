"""The delivery process: it serves one tracer of one database, as the writer tells it.

The writer starts it with the interpreter, `sys.path`, working folder and variables of the app. Whatever the tracer
does, it does to this process alone: it may hang, leak, print, crash or exit. The process ends when its writer does.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hush_core.delivery.channel import Channel, ProtocolError
from hush_core.delivery.output import Log, Output, log_path
from hush_core.delivery.protocol import Ready, Setup, Unusable
from hush_core.delivery.redaction import Redaction
from hush_core.system import die_with_parent, limit_memory, resident_bytes

if TYPE_CHECKING:
    from hush_core.delivery.attempt import Attempts

#: Behind whatever the machine is there for.
_NICE: Final = 10
_UNUSABLE_LENGTH_MAX: Final = 2000


def main(fd: int) -> NoReturn:
    """Serve until the writer is gone, on a socket of which this is the descriptor; then end the process.

    It ends with status 0 also when it has grown too large for another job; the writer then starts a fresh one. It
    waits for no thread, and runs nothing that the tracer has left to be done at the exit.
    """
    _settle_in()
    channel = Channel(fd)
    setup = channel.read_setup()
    if setup is None:
        os._exit(0)
    output = Output(Log(log_path(Path(setup.db_path), setup.tracer_name)))
    status = 1
    try:
        output.start()
        channel.start()
        if setup.memory_bytes is not None:
            limit_memory(setup.memory_bytes)
        status = _serve(setup, channel, output)
    except BaseException as problem:
        if not channel.is_in_child:
            said = str(problem) if isinstance(problem, ProtocolError) else traceback.format_exc()
            output.note(f"the delivery process ends: {said}")
    finally:
        if not channel.is_in_child:  # there is none of its threads in a child that the tracer has forked
            output.finish()
        os._exit(status)


def _settle_in() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the app
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(_NICE)


def _serve(setup: Setup, channel: Channel, output: Output) -> int:
    """Say whether the tracer can be used; if so, work until the process is too large. Gives the exit status."""
    try:
        attempts = _prepare(setup, channel, output)
    except BaseException as problem:  # a module may do anything when it is imported
        if channel.is_in_child:
            return 0
        error = output.redaction.beginning(_why_unusable(problem, setup), _UNUSABLE_LENGTH_MAX)
        output.note(f"unusable: {error}\n{traceback.format_exc()}")
        channel.send(Unusable(error.encode(errors="backslashreplace").decode()))
        return 1
    if channel.is_in_child:
        return 0
    channel.send(Ready())
    while attempts.work(channel.next_work().jobs):
        pass
    return 0


def _prepare(setup: Setup, channel: Channel, output: Output) -> Attempts:
    """Everything that can be known to be wrong before a request is read is found wrong here."""
    from hush_core.delivery.attempt import Attempts
    from hush_core.delivery.flush_data import Tracer
    from hush_core.plugins.host import get_host
    from hush_core.secret import resolve, secrets_folder

    db_path = Path(setup.db_path)
    resolved = resolve(setup.config, os.environ, secrets_folder(db_path))
    output.redaction = Redaction(resolved.secrets)
    _check_schema(db_path)
    host = get_host()
    for broken in host.broken:
        output.note(f"the plugin {broken.name!r} ({broken.distribution} {broken.version}) is broken: {broken.reason}")
    kind = host.load(setup.target or host.find(setup.tracer_type).target)
    check_class(kind)
    limit = setup.memory_bytes

    def is_full() -> bool:
        """Half of what it may take: the other half is for what the next request needs."""
        return limit is not None and resident_bytes() > limit // 2

    return Attempts(
        Tracer(setup.tracer_name, setup.tracer_type, resolved.config),
        kind,
        host,
        db_path=db_path,
        channel=channel,
        output=output,
        is_full=is_full,
    )


def _check_schema(db_path: Path) -> None:
    from hush_core.errors import SchemaTooNewError, StoreError
    from hush_core.store.queries.reader import OlderSchemaError, open_reader

    try:
        open_reader(db_path).close()
    except (OlderSchemaError, SchemaTooNewError):
        raise
    except StoreError:
        return  # a disk, or an instant: whoever reads a request finds out, and it is tried again


def check_class(kind: Any) -> None:
    """A class that cannot deliver must not be called: what it inherits would return, as if it had."""
    from hush_core.errors import ConfigError

    name = f"{kind.__module__}:{kind.__qualname__}"
    flush = getattr(kind, "flush_batch", None) or kind.flush
    if getattr(flush, "__isabstractmethod__", False):
        raise ConfigError(f"{name} does not say how it delivers. Give it `flush(flush_data)`, a static method.")
    if inspect.iscoroutinefunction(flush):
        raise ConfigError(
            f"{name}.{flush.__name__} is a coroutine function: nobody would run it. Write it as a plain static method; "
            "inside, asyncio.run() may run what is asynchronous."
        )
    try:
        inspect.signature(flush).bind({})
    except TypeError as problem:
        raise ConfigError(
            f"{name}.{flush.__name__} cannot be called with the data alone: {problem}. Make it a static method of one "
            "argument."
        ) from problem
    except ValueError:
        return  # written in C: it cannot be told


def _why_unusable(problem: BaseException, setup: Setup) -> str:
    """What went wrong, and what to do."""
    from hush_core.errors import HushError, SchemaTooNewError

    missing = _missing_module(problem)
    if missing is not None:
        return _advice_to_install(missing, setup)
    if isinstance(problem, SchemaTooNewError):
        return f"{problem} (The environment is that of {sys.executable}.)"
    if isinstance(problem, HushError):
        return str(problem)
    return f"The tracer {setup.tracer_name!r} cannot be set up: {type(problem).__name__}: {problem}"


def _missing_module(problem: BaseException) -> str | None:
    """The module that is not installed, if that is at the bottom of it."""
    seen: list[BaseException] = []
    at: BaseException | None = problem
    while at is not None and at not in seen:
        if isinstance(at, ModuleNotFoundError) and at.name:
            return at.name
        seen.append(at)
        at = at.__cause__ or at.__context__
    return None


def _advice_to_install(module: str, setup: Setup) -> str:
    top = module.partition(".")[0]
    pip = f"{sys.executable} -m pip install"
    if setup.target.partition(":")[0].partition(".")[0] == top:
        return (
            f"No module named {module!r}: install the package of tracer {setup.tracer_name!r} into {sys.executable} "
            f"({pip} {top.replace('_', '-')}, if it is called so); what waits is then delivered."
        )
    where = f" ({setup.target})" if setup.target else ""
    return (
        f"No module named {module!r}, which tracer {setup.tracer_name!r}{where} imports: install it into "
        f"{sys.executable} ({pip} ...); what waits is then delivered."
    )
