"""References in a tracer's configuration, and the files that keep literal secrets out of every record.

::

    ${NAME}        the environment variable NAME of the app that recorded
    ${sealed:ID}   a literal secret, kept in the file ID of the secrets folder
    $${            the two characters ${

`seal` is for the app: what is recorded holds references and no literal secret. `resolve` is for the delivery process,
which alone needs the values. Which texts count as secret: all under an option whose name says so (`api_key`, `token`,
`headers` ...) or that the tracer names in `secret_options`; and anywhere, what follows `Bearer` or `Basic`, the user
and password of a URL, and those of its parameters whose names say so. Too much does no harm: a sealed text resolves to
what it was.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from hush_core.errors import ConfigError, MissingVariableError
from hush_core.interrupt import is_interrupt
from hush_core.system import FILES

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?:sealed:([0-9a-f]+)|([A-Za-z_][A-Za-z0-9_]*))\}")
_SECRET_PARTS: Final = (
    "secret|passw|passphrase|token|credential|authoriz|api_?key|access_?key|private|cookie|header|signature|bearer"
    "|webhook|connection_?string"
)
_SECRET_WORDS: Final = "keys?|auth|dsn|jwt|pass|pat|pin|pwd|sas|sid|sig"
_SECRET_NAME: Final = re.compile(rf"{_SECRET_PARTS}|(?:^|[^a-z])(?:{_SECRET_WORDS})(?:$|[^a-z])")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: `user:password` of a URL, up to the last @ before its path; and each parameter of a URL with its value.
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\s]+(?=@)")
_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#\s]+)")
#: What stands before a secret and is none.
_SCHEME: Final = re.compile(r"\s*(?:(?:basic|bearer|token|apikey)\s+|[a-z][a-z0-9+.-]*://)?", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(r"\s*(?:basic|bearer)\s+\S+\s*$", re.IGNORECASE)
_NOWHERE: Final = "${sealed:0}"
_REDACTED_LENGTH_MIN: Final = 4
#: Of a URL, the host alone: to know it opens nothing, and an error has to name it.
_HOST: Final = re.compile(r"[\w.:\[\]-]+/?")
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 16
#: How long after its last use a sealed secret that nothing names is kept; and how often its use has to be noted, by
#: sealing it again, seconds.
UNUSED_KEPT_S: Final = 24 * 3600.0
NOTE_USE_S: Final = UNUSED_KEPT_S / 4


class Resolved(NamedTuple):
    """A configuration as `flush` needs it, and the values in it that nobody may be shown."""

    config: dict[str, Any]
    secrets: list[str]


def secrets_folder(db_path: Path) -> Path:
    """Where the literal secrets of a database's tracers are."""
    return Path(f"{db_path}.journal", "secrets")


def is_secret_name(name: str) -> bool:
    """Whether an option of this name holds a secret."""
    return _SECRET_NAME.search(_CAMEL.sub("_", name).lower().replace("-", "_")) is not None


def malformed_reference(text: str) -> str | None:
    """The first `${` of a text that begins no reference and is not written `$${`, with what follows; None if none."""
    rest = _REFERENCE.sub("", text)
    at = rest.find("${")
    return None if at < 0 else rest[at : at + 20]


# -- sealing, in the app ----------------------------------------------------------------------------------------------


def seal(config: Mapping[str, Any], folder: Path, names: Collection[str] = frozenset()) -> dict[str, Any]:
    """The configuration with every literal secret replaced by a reference to a file that holds it.

    When this returns, those files are on the disk: they survive what the record that names them survives, and a power
    cut. The same secret has the same name in every process. Raises OSError if a file cannot be written.

    :param names: options that are secret, beside those whose name says so.
    """
    vault = _Vault(folder)
    sealed: dict[str, Any] = _map(config, names, lambda text, secret: _seal_text(text, secret, vault.keep))
    return sealed


def sealed_in(text: str) -> set[str]:
    """The names of the sealed secrets that a configuration refers to, of its JSON text or any text that holds it."""
    return set(re.findall(r"\$\{sealed:([0-9a-f]+)\}", text))


def withhold(config: Mapping[str, Any], names: Collection[str] = frozenset()) -> dict[str, Any]:
    """The configuration with every literal secret replaced by a reference to nothing: for when they cannot be kept."""
    withheld: dict[str, Any] = _map(config, names, lambda text, secret: _seal_text(text, secret, lambda _: _NOWHERE))
    return withheld


def literal_secrets(config: Mapping[str, Any], names: Collection[str] = frozenset()) -> list[str]:
    """The literal secrets in a configuration: what must not be shown of it."""
    found: list[str] = []

    def note(secret: str) -> str:
        found.append(secret)
        return _NOWHERE

    _map(config, names, lambda text, secret: _seal_text(text, secret, note))
    return found


def redacted(text: str, config: Mapping[str, Any], names: Collection[str] = frozenset()) -> str:
    """A text without the literal secrets of a configuration. Those of fewer than four characters guard nothing."""
    for secret in sorted(literal_secrets(config, names), key=len, reverse=True):
        if len(secret) >= _REDACTED_LENGTH_MIN:
            text = text.replace(secret, "[redacted]")
    return text


def _map(value: Any, names: Collection[str], change: Callable[[str, bool], str], secret: bool = False) -> Any:
    """The value with every text in it changed; the change is told whether the text stands under a secret name."""
    if isinstance(value, str):
        return change(value, secret)
    if isinstance(value, Mapping):
        return {
            key: _map(item, names, change, secret or (isinstance(key, str) and (key in names or is_secret_name(key))))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_map(item, names, change, secret) for item in value]
    return value


def _seal_text(text: str, secret: bool, keep: Callable[[str], str]) -> str:
    """The text with its literal secrets replaced by what ``keep`` gives for each."""
    if "://" in text:
        text = _USER_INFO.sub(lambda found: _seal_whole(found[0], keep, apart=":"), text)
        text = _PARAMETER.sub(
            lambda found: f"{found[1]}={_seal_whole(found[2], keep)}" if is_secret_name(found[1]) else found[0], text
        )
    return _seal_whole(text, keep) if secret or _CREDENTIAL.match(text) else text


def _seal_whole(text: str, keep: Callable[[str], str], apart: str | None = None) -> str:
    """Everything in the text but references.

    Each secret by itself, as it may turn up in an error: without the word before it, and apart from its neighbours.
    """
    sealed = []
    for is_literal, parts in groupby(_parts(text), key=lambda part: part[1] is None):
        joined = "".join(chunk for chunk, _ in parts)
        if is_literal:
            pieces = joined.split(apart) if apart else [joined]
            joined = (apart or "").join(_seal_literal(piece, keep) for piece in pieces)
        sealed.append(joined)
    return "".join(sealed)


def _seal_literal(literal: str, keep: Callable[[str], str]) -> str:
    scheme = found[0] if (found := _SCHEME.match(literal)) else ""
    secret = literal[len(scheme) :]
    return scheme + (keep(secret) if any(map(str.isalnum, secret)) else _escape(secret))


def _parts(text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """A text in parts: literal ones, as they are meant, and references, as they are written."""
    end = 0
    for found in _REFERENCE.finditer(text):
        yield text[end : found.start()], None
        yield ("${", None) if found[0] == "$${" else (found[0], found)
        end = found.end()
    yield text[end:], None


def _escape(literal: str) -> str:
    return literal.replace("${", "$${")


class _Vault:
    """The folder of sealed secrets, for writing. Safe over threads and processes: a file never changes once it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, secret: str) -> str:
        """A reference to the secret, whose file is there when this returns."""
        from hashlib import blake2b

        content = secret.encode(errors="surrogatepass")
        # Keyed, so that the name tells nothing: not even that two databases hold the same secret.
        name = blake2b(content, key=self._key(), digest_size=_ID_BYTES).hexdigest()
        path = self._folder / name
        try:
            if os.stat(path).st_mtime < time.time() - NOTE_USE_S / 2:
                with suppress(OSError):  # another user's: it is theirs to keep
                    os.utime(path)
        except FileNotFoundError:
            self._write(path, content)
        return f"${{sealed:{name}}}"

    def _key(self) -> bytes:
        path = self._folder / "key"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            FILES.make_directory(self._folder)
            self._write(path, os.urandom(_KEY_BYTES), replace=False)
            return path.read_bytes()

    def _write(self, path: Path, content: bytes, *, replace: bool = True) -> None:
        """Make a file whole or not at all, readable by its owner alone."""
        new = path.with_name(f"{path.name}.{os.urandom(6).hex()}.new")
        fd = FILES.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                if FILES.write(fd, content, 0) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                FILES.sync(fd)  # the journal, which refers to it, is synced by the writer: this is not
            finally:
                os.close(fd)
            if replace:
                FILES.rename(new, path)
            else:
                _put_first(new, path)
        finally:
            new.unlink(missing_ok=True)
        FILES.sync_directory(self._folder)


def _put_first(new: Path, path: Path) -> None:
    """Give the file its name, unless another process was first."""
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    except OSError as problem:
        if is_interrupt(problem):
            raise
        # A file system without links. Should two come here at once, one secret has two files: no harm.
        FILES.rename(new, path)


# -- resolving, in the delivery process -------------------------------------------------------------------------------


def names_in(config: Mapping[str, Any]) -> set[str]:
    """The environment variables that a configuration refers to."""
    return {name for text in _texts(config) for _, found in _parts(text) if found is not None and (name := found[2])}


def resolve(config: Mapping[str, Any], environment: Mapping[str, str], folder: Path) -> Resolved:
    """The configuration with every reference replaced by its value, and the values that came from references.

    Of a value of several parts each part is given too: an error may quote the user or the password of a URL, one of its
    parameters, or what follows `Bearer`.

    Raises MissingVariableError, which names every variable that is not set, and ConfigError for a sealed secret whose
    file is not there.
    """
    _demand_variables(config, environment)
    secrets: dict[str, None] = {}

    def change(text: str, _: bool) -> str:
        parts = list(_parts(text))
        values = [chunk if found is None else _value(found, environment, folder) for chunk, found in parts]
        whole = "".join(values)
        referred = [value for value, (_, found) in zip(values, parts, strict=True) if found is not None]
        for value in referred:
            secrets[value] = None
            secrets.update(dict.fromkeys(_secret_parts(value)))
        if referred:  # user:password may be one reference, in a URL that is written out
            secrets.update(dict.fromkeys(literal_secrets({"": _escape(whole)})))
        return whole

    resolved: dict[str, Any] = _map(config, (), change)
    return Resolved(resolved, [secret for secret in secrets if secret])


def _secret_parts(value: str) -> list[str]:
    """What of a secret value may turn up without the rest of it."""
    parts = literal_secrets({"secret": _escape(value)})
    return [part for part in parts if not (value.endswith(f"://{part}") and _HOST.fullmatch(part))]


def _demand_variables(config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    missing = {
        option: wanted for option, value in config.items() if (wanted := names_in({option: value}) - set(environment))
    }
    if missing:
        variables = sorted(set().union(*missing.values()))
        uses = ", ".join(f"{option} refers to {_named(wanted)}" for option, wanted in missing.items())
        raise MissingVariableError(
            f"{_named(variables)} {'is' if len(variables) == 1 else 'are'} not set in the app's environment. Of the "
            f"tracer's options, {uses}. Set it where the app is started.",
            variables=variables,
            options=missing,
        )


def _named(variables: Iterable[str]) -> str:
    return ", ".join(f"${{{name}}}" for name in sorted(variables))


def _value(found: re.Match[str], environment: Mapping[str, str], folder: Path) -> str:
    sealed, variable = found.groups()
    if sealed is None:
        return environment[variable]
    try:
        return Path(folder, sealed).read_bytes().decode(errors="surrogatepass")
    except OSError as problem:
        raise ConfigError(
            f"A literal secret of the tracer's configuration cannot be read from {Path(folder, sealed)}: "
            f"{problem.strerror}. New requests of an app with that configuration write it again; better, let the "
            "configuration refer to an environment variable: ${NAME}."
        ) from problem


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
