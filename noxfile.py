"""The project's commands. `python3 dev.py NAME` runs a session of this file on a machine that has only Python and pip.

Everything but `types`, `lint` and `bench` runs against the built wheel in an environment of its own, never against the
checkout: what is tested is what is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nox

ROOT = Path(__file__).parent
EXAMPLE = ROOT / "examples" / "hush-jsonl"
LANGFUSE = ROOT / "plugins" / "hush-langfuse"
OTEL = ROOT / "plugins" / "hush-otel"
PLUGINS = (LANGFUSE, OTEL)
#: What is tested of a plugin beyond what it needs to be installed: its extras.
EXTRAS = {OTEL: "[grpc]"}
NOX_DIR = ROOT / ".nox"
RESULTS = NOX_DIR / "results"  # one JUnit file per `tests` session; dev.py adds them up
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]


def tests_of(project: Path) -> list[str]:
    """What a plugin's own tests need."""
    return nox.project.dependency_groups(nox.project.load_toml(project / "pyproject.toml"), "tests")


def interpreter_folders() -> list[Path]:
    """The folders of real interpreters beside those that PATH finds: the one that runs nox, then pyenv's versions.

    pyenv puts shims on PATH that fail for every version that is not the selected one, so the folders behind them have
    to come first. The versions folder is found from PYENV_ROOT, from the home folder, or from where the running
    interpreter itself was installed, since the home folder may be an empty one.
    """
    running = Path(sys.base_prefix)
    versions = [running.parent] if running.parent.name == "versions" else []
    roots = [os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")]
    versions += [Path(root, "versions") for root in roots if root]
    installed = [folder for root in versions if root.is_dir() for folder in sorted(root.iterdir(), reverse=True)]
    # Only plain releases, named 3.12.1: not environments, release candidates or builds without the GIL.
    named = [folder / "bin" for folder in installed if re.fullmatch(rf"({'|'.join(SUPPORTED)})\.\d+", folder.name)]
    return [folder for folder in dict.fromkeys([running / "bin", *named]) if folder.is_dir()]


os.environ["PATH"] = os.pathsep.join([*map(str, interpreter_folders()), os.environ.get("PATH", os.defpath)])
# Downloading an interpreter is the user's business: a version that is not present is skipped, and nox says so.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "docs", "example", "tests"]

PYTHONS = [*SUPPORTED, *([] if RUNNING in SUPPORTED else [RUNNING])]


def is_present(version: str) -> bool:
    """Whether such an interpreter runs: pyenv has shims for versions that are not there, and nox skips those."""
    command = shutil.which(f"python{version}")
    return command is not None and subprocess.run([command, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0


_wheels: dict[Path, Path] = {}  # project -> its wheel, built once per run of nox


def built_wheel(session: nox.Session, project: Path = ROOT) -> Path:
    """The wheel of a project of this checkout, built by the first session that asks."""
    if project not in _wheels:
        folder = NOX_DIR / "wheel" / project.name
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(project))
        _wheels[project] = max(folder.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime_ns)
    return _wheels[project]


def wheels_of(session: nox.Session, projects: Iterable[Path]) -> list[str]:
    """These projects as pip takes them: their wheels, with what is tested of their extras."""
    return [f"{built_wheel(session, project)}{EXTRAS.get(project, '')}" for project in projects]


def install(session: nox.Session, *groups: str, projects: Iterable[Path] = (ROOT,)) -> None:
    """Install built wheels and the dependency groups, and nothing else of this checkout.

    In an environment that is used again, what is there of it goes first: pip would keep a wheel whose version number
    has not changed.
    """
    site_packages = Path(session.virtualenv.location, "lib").glob("python*/site-packages")
    there = [found.name.partition("-")[0] for folder in site_packages for found in folder.glob("hush_*.dist-info")]
    if there:
        session.run_install("python", "-m", "pip", "uninstall", "-q", "-y", *there)
    dependencies = nox.project.dependency_groups({"dependency-groups": GROUPS}, *groups)
    session.install("-q", *wheels_of(session, projects), *dependencies)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo workflow: `demo [FOLDER]`."""
    install(session)
    session.run("hush", "demo", *session.posargs)
    session.log(f"The hush command of this demo is {Path(session.bin, 'hush')}")


def share_of_kills(session: nox.Session) -> list[str]:
    """Where every Python takes its turn: its share of the instants at which the crash tests kill, and of shared tests.

    Which call of a cycle is the n-th is the same for each of them, so together they kill at every one.
    """
    if "SHARE_OUT_CRASHES" not in os.environ:
        return []
    present = [version for version in PYTHONS if is_present(version)]
    return ["--share", str(present.index(session.python) + 1), str(len(present))]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the test suites of hush and of its plugins on the built wheels, on each supported Python here."""
    # Of hush itself many tests mostly wait, for the processes that they start; those of deliveries have more to do.
    workers_a_core = {"absent": 3, "installed": 2}
    nothing_ran_is_well = [0, 5] if session.posargs else [0]  # what was asked for may all be in the other run
    names_a_path = any(Path(ROOT, argument.partition("::")[0]).exists() for argument in session.posargs)

    def run(plugins: str) -> None:
        workers = workers_a_core[plugins] * (os.cpu_count() or 1)
        report = RESULTS / f"tests-{session.python}-plugins-{plugins}.xml"
        options = ["-q", "-n", str(workers), "--dist", "worksteal", f"--junit-xml={report}", *share_of_kills(session)]
        # The script and not `python -m pytest`, which would put the checkout on sys.path.
        command = ["pytest", "--installed", f"--hush-plugins={plugins}", *options, *session.posargs]
        if plugins == "absent" and not names_a_path:
            command.append("tests")  # else the conftest files of the plugins' own tests would be loaded, too
        # Where Python may not write bytecode, each worker and each process that a test starts compiles anew.
        session.run(*command, success_codes=nothing_ran_is_well, env={"PYTHONDONTWRITEBYTECODE": ""})

    install(session, "tests")
    run("absent")
    dependencies = [name for project in PLUGINS for name in tests_of(project)]
    session.install("-q", *wheels_of(session, (EXAMPLE, *PLUGINS)), *dependencies)
    run("installed")


@nox.session
def crash(session: nox.Session) -> None:
    """Kill the app and the writer 1,000 times at random instants: `crash [--kills N]`."""
    install(session, "tests")
    parallel = ["-n", str(os.cpu_count() or 1), "--dist", "worksteal"]
    campaign = ["tests/crash", "--kills", "1000", "--timeout", "3600"]
    session.run("pytest", "--installed", *parallel, *campaign, *session.posargs)


@nox.session
def properties(session: nox.Session) -> None:
    """What must hold of any input, most of it over 10,000 of them: `properties [ARGS of pytest]`."""
    install(session, "tests")
    parallel = ["-n", str(os.cpu_count() or 1), "--dist", "worksteal"]
    any_input = ["-m", "hypothesis", "--hypothesis-profile", "thorough", "tests", "--timeout", "3600"]
    session.run("pytest", "--installed", "--hush-plugins=absent", *parallel, *any_input, *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Every answer of a backend and every misdeed of a plugin, each over 1,000 requests: `faults [--trial N]`."""
    install(session, "tests", projects=(ROOT, EXAMPLE))
    names = ("answers", "backends_that_misbehave", "plugins_that_misbehave")
    files = [f"tests/delivery/test_{name}.py" for name in names]
    session.run("pytest", "--installed", *files, "--trial", "1000", "--timeout", "600", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill app, writer and delivery 300 times over 20,000 requests: `chaos [--campaign KILLS REQUESTS]`."""
    install(session, "tests", projects=(ROOT, EXAMPLE))
    campaign = ["tests/delivery/test_kill_campaign.py", "--campaign", "300", "20000"]
    session.run("pytest", "--installed", "-rP", *campaign, "--timeout", "3600", *session.posargs)


@nox.session
def receivers(session: nox.Session) -> None:
    """What Arize Phoenix and MLflow have stored of what hush-otel sent them; installs both, 850 MB each."""
    install(session, "tests", projects=(ROOT, OTEL))
    variables = {}
    for package, command in {"arize-phoenix": "phoenix", "mlflow": "mlflow"}.items():
        # Each in an environment of its own: what they depend on is half of PyPI, and not the same half.
        folder = NOX_DIR / "servers" / package
        if not (folder / "bin" / command).exists():
            session.run(sys.executable, "-m", "virtualenv", "-q", str(folder), external=True)
            session.run(str(folder / "bin" / "python"), "-m", "pip", "install", "-q", package, external=True)
        variables[f"{command.upper()}_COMMAND"] = str(folder / "bin" / command)
    slow = ["pytest", str(OTEL / "slow"), "--timeout", "900", *session.posargs]
    session.run(*slow, env=variables)


@nox.session(reuse_venv=False)
def example(session: nox.Session) -> None:
    """What the README says of delivering, in a fresh environment: install, deliver, uninstall, wait, install again."""
    wheels = [str(built_wheel(session, project)) for project in (ROOT, EXAMPLE)]
    session.run("python", "-m", "pip", "install", "-q", *wheels)
    session.run("python", "tests/example/in_a_fresh_environment.py", wheels[1])


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the import contracts."""
    session.install("-q", *nox.project.dependency_groups({"dependency-groups": GROUPS}, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check the packages with mypy --strict, and what a user of the installed wheel sees of its types."""
    install(session, "types", projects=(ROOT, LANGFUSE, OTEL))
    session.run("mypy")
    session.chdir("tests/typing")  # from here, `import hush_core` is the installed wheel
    session.run("mypy", "--config-file=", "--strict", ".")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the help texts in the documents are those of the commands; `docs -- -r` rewrites them."""
    install(session, "docs")
    documents = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    session.run("cog", *(session.posargs or ["--check"]), *map(str, documents))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against the budgets: `bench [ARGS of benchmarks]`."""
    install(session, "bench", projects=(ROOT, OTEL))
    # `-m` puts the checkout first on sys.path: the wheel is here for its dependencies, the code measured is the same.
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into dist/."""
    session.install("-q", *nox.project.dependency_groups({"dependency-groups": GROUPS}, "build"))
    session.run("hatchling", "build", "-d", "dist")
