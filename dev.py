"""Runs the project's commands on a machine that has only Python and pip.

`python3 dev.py demo` and `python3 dev.py tests` make an isolated nox in `.nox/dev` inside this checkout, once, and hand
over to it; nothing is installed outside the checkout. `python3 dev.py NAME [ARGS]` runs any session of noxfile.py, and
`tests` without arguments everything that has to hold before a change goes in, ending with one line
that adds up the tests.

This file has to start on a Python that is too old, in order to say so: it uses only what Python 3.6 understands.
"""

import glob
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from typing import Dict, List, Optional, Tuple

ROOT = os.path.dirname(os.path.abspath(__file__))
NOX_DIR = os.path.join(ROOT, ".nox")
ENVIRONMENT = os.path.join(NOX_DIR, "dev")
RESULTS = os.path.join(NOX_DIR, "results")
REPORT = os.path.join(RESULTS, "sessions.json")
NOX = "nox>=2025.11.12"
OLDEST = (3, 10)
CHECKS = ["lint", "types", "docs", "example", "tests"]

USAGE = """usage: python3 dev.py COMMAND [ARGS]

  demo [FOLDER]   record a retrieval workflow over the documents in FOLDER and show its trace
  tests           lint, types, docs, the example in a fresh environment, and the test suite on each Python here
  tests ARGS      the test suite alone, ARGS handed to pytest
  NAME [ARGS]     any other session of noxfile.py (crash, faults, chaos, example, bench, lint, ...)
  list            the sessions
"""


class CannotStart(Exception):
    """This machine lacks something; the message says what, and what to do."""


def check_python(version: Tuple[int, ...]) -> None:
    if version < OLDEST:
        raise CannotStart(
            "hush needs Python {}.{} or newer; this is {}.{} ({}).\n"
            "Run the same command with a newer one, for example: python3.12 dev.py tests".format(
                *OLDEST, *version[:2], sys.executable
            )
        )


def attempt(command: List[str], **variables: str) -> Tuple[bool, str]:
    """Whether the command succeeds, and what it said."""
    done = subprocess.run(
        command, env=dict(os.environ, **variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )
    return done.returncode == 0, done.stdout.decode(errors="replace").strip()


def environment_python() -> str:
    return os.path.join(ENVIRONMENT, "bin", "python")


def make_environment() -> None:
    """An empty virtual environment with pip, whatever this machine's Python was left without.

    Debian ships Python without ensurepip (package python3-venv), where `python -m venv` fails, and refuses global
    installs (PEP 668). What it does allow is `pip install --target`, which puts virtualenv into this checkout;
    virtualenv brings its own pip.
    """
    made, with_venv = attempt([sys.executable, "-m", "venv", "--clear", ENVIRONMENT])
    if made:
        return
    has_pip, said = attempt([sys.executable, "-m", "pip", "--version"])
    if not has_pip:
        raise CannotStart(
            "This Python ({}) can neither make a virtual environment nor run pip.\n"
            "Install one of them (on Debian and Ubuntu: apt install python3-venv, or python3-pip) and try again.\n\n"
            "venv said: {}\npip said: {}".format(sys.executable, with_venv, said)
        )
    target = os.path.join(NOX_DIR, "virtualenv")
    install([sys.executable, "-m", "pip", "install", "--target", target, "--upgrade"], "virtualenv")
    made, said = attempt([sys.executable, "-m", "virtualenv", "--clear", ENVIRONMENT], PYTHONPATH=target)
    if not made:
        raise CannotStart("virtualenv could not make an environment in {}:\n{}".format(ENVIRONMENT, said))


def install(pip_install: List[str], requirement: str) -> None:
    installed, said = attempt([*pip_install, "--quiet", "--disable-pip-version-check", requirement])
    if not installed:
        raise CannotStart(
            "pip could not install {}. The first run needs a package index: check the network, a proxy (HTTPS_PROXY) "
            "or an index of your own (PIP_INDEX_URL).\n\npip said: {}".format(requirement, said)
        )


def ensure_nox() -> None:
    """Make `.nox/dev` with nox in it, unless it is there and works with this very Python."""
    if made_by() == made_by_now() and attempt([environment_python(), "-m", "nox", "--version"])[0]:
        return
    print("Preparing nox in {} (once) ...".format(os.path.relpath(ENVIRONMENT)), flush=True)
    os.makedirs(NOX_DIR, exist_ok=True)
    make_environment()
    install([environment_python(), "-m", "pip", "install"], NOX)
    with open(os.path.join(ENVIRONMENT, "made-by"), "w") as file:
        file.write(made_by_now())


def made_by() -> Optional[str]:
    try:
        with open(os.path.join(ENVIRONMENT, "made-by")) as file:
            return file.read()
    except OSError:
        return None


def made_by_now() -> str:
    """What an environment depends on: the interpreter it was made from, and where it lies (a moved one breaks)."""
    return "{}\n{}\n{}\n".format(sys.executable, sys.version, ENVIRONMENT)


def run_nox(arguments: List[str], **variables: str) -> int:
    sys.stdout.flush()
    command = [environment_python(), "-m", "nox", *arguments]
    return subprocess.call(command, cwd=ROOT, env=dict(os.environ, **variables))


def run_checks(arguments: List[str]) -> int:
    """Everything that has to hold, or with arguments the tests alone, and the closing line."""
    begin = time.time()
    for stale in glob.glob(os.path.join(RESULTS, "*")):
        os.remove(stale)
    os.makedirs(RESULTS, exist_ok=True)
    sessions = ["tests"] if arguments else CHECKS
    command = ["--report", REPORT, "-s", *sessions, "--", *arguments]
    code = run_nox(command) if arguments else run_nox(command, SHARE_OUT_CRASHES="yes")
    counts = count_results()
    if not counts["passed"] and not counts["failed"]:
        print("No test ran: that is a failure.")
        code = code or 1
    print(closing_line(counts, time.time() - begin), flush=True)
    return code or int(counts["failed"] + counts["error"] > 0)


def count_results() -> Dict[str, int]:
    """Tests by outcome over all Pythons, and as an `error` each other session that failed or that left no results."""
    counts = {"failed": 0, "passed": 0, "skipped": 0, "error": 0}
    for path in glob.glob(os.path.join(RESULTS, "tests-*.xml")):
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            found = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
            counts["failed"] += found["failures"]
            counts["error"] += found["errors"]
            counts["skipped"] += found["skipped"]
            counts["passed"] += found["tests"] - found["failures"] - found["errors"] - found["skipped"]
    counts["error"] += sum(1 for name in failed_sessions() if not glob.glob(os.path.join(RESULTS, name + "*.xml")))
    return counts


def failed_sessions() -> List[str]:
    try:
        with open(REPORT) as file:
            sessions = json.load(file)["sessions"]
    except FileNotFoundError:
        return ["nox"]  # it ended before it could report
    return [session["signatures"][0] for session in sessions if session["result"] not in ("success", "skipped")]


def closing_line(counts: Dict[str, int], seconds: float) -> str:
    """One line as pytest ends with, over all sessions: `==== 2 failed, 810 passed, 1 error in 312.40s ====`."""
    plural = {**counts, "errors": counts["error"]}
    del plural["error" if counts["error"] > 1 else "errors"]
    said = ", ".join("{} {}".format(count, outcome) for outcome, count in plural.items() if count) or "no tests ran"
    return " {} in {:.2f}s ".format(said, seconds).center(80, "=")


def main(arguments: List[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    check_python(sys.version_info[:3])
    for variable in ("PYTHONPATH", "PYTHONHOME"):  # they would reach into environments that are meant to be isolated
        os.environ.pop(variable, None)
    ensure_nox()
    command, rest = arguments[0], arguments[1:]
    if command == "tests":
        return run_checks(rest)
    return run_nox(["--list"]) if command == "list" else run_nox(["-s", command, "--", *rest])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CannotStart as problem:
        sys.exit("dev.py: {}".format(problem))
    except KeyboardInterrupt:
        sys.exit(130)
