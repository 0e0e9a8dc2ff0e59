"""What every test stands on: a home and a database of its own, no writer left behind, no unexpected report."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from waiting import wait_until

import hush_core
from hush_core.background import supervisor

CHECKOUT = Path(__file__).parent.parent

# Nothing fails for being slow: the machine is shared. Failed examples are kept in the checkout, not in a test's folder.
settings.register_profile(
    "hush",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=DirectoryBasedExampleDatabase(CHECKOUT / ".hypothesis"),
)
settings.register_profile("thorough", settings.get_profile("hush"), max_examples=10_000)
settings.load_profile("hush")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hush")
    group.addoption("--kills", type=int, default=200, help="how many random kills the crash tests make (default: 200)")
    group.addoption(
        "--share",
        nargs=2,
        type=int,
        default=(1, 1),
        metavar=("I", "N"),
        help="of the instants at which the crash tests kill, and of the cases of tests marked `shared`, every N-th from"
        " the I-th on (default: 1 1, all of them)",
    )
    group.addoption(
        "--campaign",
        nargs=2,
        type=int,
        default=(30, 1000),
        metavar=("KILLS", "REQUESTS"),
        help="how many kills the campaign against delivery makes, over how many requests (default: 30 1000)",
    )
    group.addoption(
        "--trial", type=int, default=50, help="over how many requests each misdeed of a plugin is tried (default: 50)"
    )
    group.addoption("--installed", action="store_true", help="fail unless hush_core is the installed one")


def pytest_configure(config: pytest.Config) -> None:
    share, shares = config.getoption("--share")
    if not 1 <= share <= shares:
        raise pytest.UsageError(f"--share {share} {shares}: the first is from 1 to the second")
    if config.getoption("--installed") and CHECKOUT / "hush_core" in Path(hush_core.__file__).parents:
        raise pytest.UsageError(f"--installed: hush_core is the checkout's ({hush_core.__file__}), not the wheel's")
    if "PYTHONPATH" in os.environ:  # a relative one has to hold in tests' own working folders and child processes
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:  # by `nohup` or `&`, and so in each process that a test starts
            signal.signal(number, lambda *_: None)  # ignored here, as before, and not inherited


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The crash tests first: they take longest, and fork by the hundred a process that other tests make larger. Of the
    cases of shared tests, this run's.
    """
    items.sort(key=lambda item: CHECKOUT / "tests" / "crash" not in item.path.parents)
    number, shares = config.getoption("--share")
    others = [
        item
        for at, item in enumerate(item for item in items if item.get_closest_marker("shared"))
        if at % shares != number - 1
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


class Share(NamedTuple):
    """What one of several runs of the suite does of what they do together."""

    number: int  #: from 1
    shares: int

    def instants(self) -> Iterator[int]:
        return itertools.count(self.number, self.shares)

    def of(self, times: int) -> int:
        return times * self.number // self.shares - times * (self.number - 1) // self.shares


@pytest.fixture
def nothing_is_left_open() -> Iterator[None]:
    """Let go of the files that an interrupt has left to the collector."""
    yield
    gc.collect()


@pytest.fixture
def share(request: pytest.FixtureRequest) -> Share:
    return Share(*request.config.getoption("--share"))


@pytest.fixture
def kills(request: pytest.FixtureRequest, share: Share) -> int:
    """How many random kills a crash test makes: its share of them."""
    return share.of(request.config.getoption("--kills"))


@pytest.fixture
def instants(share: Share) -> Iterator[int]:
    """The instants at which a crash test makes something happen, from 1 on: its share of them, without an end."""
    return share.instants()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder and a database path of the test's own; no setting of the person who runs the tests."""
    folder = tmp_path / "home"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("HUSH_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "traces.db"))
    # Out of the checkout, whose package a child process with the working folder on sys.path would import.
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(autouse=True)
def writers_end_with_the_test(tmp_path: Path, home: Path) -> Iterator[None]:
    """End the writers that the test started, by process id, and let go of their databases.

    Let go, or this process would wake a writer for each of them when it exits.
    """
    yield
    for path in [path for path in supervisor._backgrounds if tmp_path.resolve() in path.parents]:
        del supervisor._backgrounds[path]
    wait_until(lambda: not end_writers(tmp_path), "the writers of this test to end")


def writers_under(folder: Path) -> list[int]:
    """The process ids of the writers whose database lies under the folder."""
    inside = f"{folder.resolve()}/"
    return [pid for pid, argv in running_processes() if "hush_core.background" in argv and inside in argv]


def end_writers(folder: Path) -> list[int]:
    """Kill the writers under the folder, and the shells that would start them again. Gives those that were there."""
    found = writers_under(folder)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def running_processes() -> Iterator[tuple[int, str]]:
    """Process id and command line of all that runs; a zombie has no command line and so is not named by any."""
    if not Path("/proc/self/cmdline").exists():  # macOS
        listing = subprocess.run(["ps", "-axww", "-o", "pid=,command="], stdout=subprocess.PIPE, text=True, check=True)
        for pid, _, argv in (line.strip().partition(" ") for line in listing.stdout.splitlines()):
            yield int(pid), argv
        return
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                yield int(entry), Path("/proc", entry, "cmdline").read_text(errors="replace").replace("\0", " ")


@pytest.fixture(autouse=True)
def reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What reached the capture funnel during the test, which fails the test unless it is marked `expects_report`."""
    heard: list[str] = []
    report = supervisor.Background.report

    def listen(background: supervisor.Background, problem: BaseException, doing: str) -> None:
        heard.append(f"{doing}: {problem!r}")
        report(background, problem, doing)

    monkeypatch.setattr(supervisor.Background, "report", listen)
    yield heard
    if heard and request.node.get_closest_marker("expects_report") is None:
        pytest.fail("reached the capture funnel, which this test does not expect:\n" + "\n".join(heard))
