"""Secrets of a tracer's configuration: what is recorded refers to them, and only a delivery sees them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hush_core import ConfigError, MissingVariableError
from hush_core.secret import (
    Resolved,
    is_secret_name,
    literal_secrets,
    malformed_reference,
    names_in,
    resolve,
    seal,
    sealed_in,
    secrets_folder,
    withhold,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return secrets_folder(tmp_path / "traces.db")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


# -- which texts are secret -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "key", "api_key", "apiKey", "API_KEY", "apikey", "secret", "client_secret", "secretKey", "token", "accessToken",
        "tokens", "password", "passwd", "db_password", "passphrase", "pwd", "authorization", "Authorization", "auth",
        "basic_auth", "credential", "credentials", "cookie", "Set-Cookie", "headers", "extra_headers", "dsn",
        "sentry_dsn", "X-API-Key", "private", "private_pem", "webhook_url", "connection_string", "connectionString",
        "signature", "jwt", "bearer",
    ],
)  # fmt: skip
def test_an_option_whose_name_says_so_is_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["url", "host", "project", "timeout_s", "path", "environment", "monkey", "author", "keyboard", "pinned"]
)
def test_any_other_option_is_not(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("config", "secrets"),
    [
        ({"api_key": "sk-1", "project": "p"}, ["sk-1"]),
        ({"headers": {"X-Tenant": "t-1", "n": 3}}, ["t-1"]),
        ({"client": {"password": "hunter2"}}, ["hunter2"]),
        ({"tokens": ["a1", ["b2"]]}, ["a1", "b2"]),
        ({"headers": {"Authorization": "Bearer abc"}}, ["abc"]),
        ({"anything": "Basic dXNlcjpwYXNz"}, ["dXNlcjpwYXNz"]),
        ({"url": "https://user:pa@ss@host/path"}, ["user", "pa@ss"]),
        ({"url": "https://tok-1@host"}, ["tok-1"]),
        ({"url": "https://host/x?page=2&api_key=k1&sig=s1#top"}, ["k1", "s1"]),
        ({"url": "https://host/@handle?next=a@b"}, []),
        ({"api_key": "${KEY}"}, []),
        ({"authorization": "Bearer ${TOKEN}"}, []),
        ({"dsn": "postgres://${USER}:pw@host"}, ["pw", "@host"]),
        ({"dsn": "https://me:pw-1@host"}, ["me", "pw-1", "@host"]),
        ({"webhook": "https://hooks.example/T0/B1"}, ["hooks.example/T0/B1"]),
        ({"password": "a$${b"}, ["a${b"]),
        ({"password": ""}, []),
        ({"max_tokens": 5, "key": None, "token": True}, []),
        ({"mine": "v-1"}, ["v-1"]),
    ],
)
def test_the_literal_secrets_of_a_configuration(config: dict[str, Any], secrets: list[str]) -> None:
    assert sorted(literal_secrets(config, {"mine"})) == sorted(secrets)


# -- sealing ----------------------------------------------------------------------------------------------------------


def test_what_is_sealed_holds_no_secret_and_resolves_to_what_it_was(folder: Path) -> None:
    config = {
        "secret_key": "sk-hunter2",
        "public_key": "${PUBLIC}",
        "headers": {"Authorization": "Bearer ${TOKEN}", "X-Key": "Basic s3cret"},
        "url": "https://me:pw-1@host/v1?token=t-1&page=2",
        "note": "costs $${5}",
        "timeout_s": 2.5,
        "hosts": ["a", "b"],
    }
    sealed = seal(config, folder)
    assert not any(secret in str(sealed) for secret in ("hunter2", "s3cret", "me:", "pw-1", "t-1"))
    assert (sealed["timeout_s"], sealed["hosts"], sealed["note"]) == (2.5, ["a", "b"], "costs $${5}")
    resolved = resolve(sealed, {"PUBLIC": "pk", "TOKEN": "abc"}, folder)
    assert resolved.config == {
        **config,
        "public_key": "pk",
        "headers": {"Authorization": "Bearer abc", "X-Key": "Basic s3cret"},
        "note": "costs ${5}",
    }
    assert set(resolved.secrets) == {"sk-hunter2", "pk", "abc", "s3cret", "me", "pw-1", "t-1"}


def test_the_configuration_that_is_sealed_stays_as_it_was(folder: Path) -> None:
    config = {"headers": {"a": "b-1"}}
    seal(config, folder)
    assert config == {"headers": {"a": "b-1"}}


def test_secrets_are_kept_for_their_owner_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        seal({"key": "sk-1"}, folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(map(len, files(folder))) == [3, 32]  # the key, and one secret under the hash of it
    assert len((folder / "key").read_bytes()) == 32


def test_a_secret_has_the_same_name_in_every_process_and_another_in_every_database(tmp_path: Path) -> None:
    def sealed_by_another_process(folder: Path) -> str:
        code = "import sys; from hush_core.secret import seal; from pathlib import Path\n"
        code += "print(seal({'key': 'sk-1'}, Path(sys.argv[1]))['key'])"
        return subprocess.run(
            [sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()

    one, other = tmp_path / "one", tmp_path / "other"
    assert sealed_by_another_process(one) == sealed_by_another_process(one) == seal({"key": "sk-1"}, one)["key"]
    assert seal({"key": "sk-1"}, other)["key"] != seal({"key": "sk-1"}, one)["key"]
    assert len(files(one)) == 2


def test_processes_that_seal_at_once_agree(tmp_path: Path) -> None:
    code = "import sys; from hush_core.secret import seal; from pathlib import Path\n"
    code += "sys.stdin.read(1); print(seal({'key': 'sk-1'}, Path(sys.argv[1]))['key'])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "at-once"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    answers = {process.communicate()[0].strip() for process in processes}
    assert len(answers) == 1
    assert len(files(tmp_path / "at-once")) == 2


def test_a_configuration_without_literal_secrets_needs_no_file(folder: Path) -> None:
    config = {"key": "${KEY}", "url": "https://host", "headers": {"Authorization": "Bearer ${TOKEN}"}}
    assert seal(config, folder) == config
    assert not folder.exists()


def test_what_is_sealed_already_stays_as_it_is(folder: Path) -> None:
    sealed = seal({"key": "sk-1", "url": "https://u:p@host"}, folder)
    assert seal(sealed, folder) == sealed


def test_a_secret_that_cannot_be_written_is_an_error_and_can_be_withheld(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        seal({"key": "sk-1"}, tmp_path / "file" / "secrets")
    withheld = withhold({"key": "sk-1", "url": "https://host", "other": {"token": "Bearer t-1"}})
    assert withheld["url"] == "https://host"
    assert "sk-1" not in str(withheld) and "t-1" not in str(withheld)
    with pytest.raises(ConfigError, match="literal secret of the tracer's configuration cannot be read"):
        resolve(withheld, {}, tmp_path)


def test_nothing_is_left_behind_when_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal({"key": "first"}, folder)
    monkeypatch.setattr("hush_core.system.Files.write", lambda files, fd, data, offset: 0)
    with pytest.raises(OSError, match="No space left"):
        seal({"key": "second"}, folder)
    assert len(files(folder)) == 2
    monkeypatch.undo()
    assert resolve(seal({"key": "second"}, folder), {}, folder).config == {"key": "second"}


# -- resolving --------------------------------------------------------------------------------------------------------


def test_the_variables_that_a_configuration_names(folder: Path) -> None:
    config = {"a": "${ONE} and ${TWO}", "b": {"c": ["${THREE}"]}, "d": "$${FOUR}", "e": "${sealed:ab}", "f": 5}
    assert names_in(config) == {"ONE", "TWO", "THREE"}


def test_a_missing_variable_is_an_error_that_names_it_and_the_option(folder: Path) -> None:
    with pytest.raises(MissingVariableError) as caught:
        resolve(
            {"url": "${HOST}/x", "secret_key": "${SECRET_KEY}", "public_key": "${PUBLIC_KEY}"}, {"HOST": "h"}, folder
        )
    assert str(caught.value) == (
        "${PUBLIC_KEY}, ${SECRET_KEY} are not set in the app's environment. Of the tracer's options, secret_key refers "
        "to ${SECRET_KEY}, public_key refers to ${PUBLIC_KEY}. Set it where the app is started."
    )
    assert caught.value.variables == ("PUBLIC_KEY", "SECRET_KEY")
    assert caught.value.options == ("secret_key", "public_key")


def test_a_sealed_secret_whose_file_is_gone_is_an_error_that_says_what_to_do(folder: Path) -> None:
    sealed = seal({"key": "sk-1"}, folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"cannot be read from .*secrets/[0-9a-f]{32}: No such file.*\$\{NAME\}"):
        resolve(sealed, {}, folder)


def test_the_value_of_a_variable_is_not_looked_into(folder: Path) -> None:
    assert resolve({"a": "${A}"}, {"A": "${B}$${"}, folder) == Resolved({"a": "${B}$${"}, ["${B}$${"])


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${a b}", "x ${LANGFUSE-KEY}", "${sealed:}"])
def test_what_looks_like_a_reference_and_is_none_stays_and_can_be_told(text: str, folder: Path) -> None:
    assert resolve({"a": text}, {}, folder).config == {"a": text}
    assert malformed_reference(text) == text[text.index("${") :]


@pytest.mark.parametrize("text", ["", "$", "{}", "${A}", "$${", "$${A", "a${A}b${sealed:0f}"])
def test_what_is_written_rightly_is_not_told(text: str) -> None:
    assert malformed_reference(text) is None


TEXTS = st.text(st.sampled_from("ab:/@?=&${}. ") | st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))


@settings(max_examples=30)  # each secret that is kept is synced to the disk
@given(config=st.dictionaries(st.sampled_from(["api_key", "url", "x"]) | TEXTS, VALUES))
def test_sealing_never_changes_what_a_configuration_resolves_to(
    config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "sealed-anything"
    environment = {name: f"<{name}>" for name in names_in(config)}
    plain = resolve(config, environment, folder)
    assert resolve(seal(config, folder), environment, folder).config == plain.config


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("Bearer tok-1", {"tok-1"}),
        ("Token tok-1", {"tok-1"}),
        ("https://me:pw-1@host/?page=2&api_key=k-1", {"me", "pw-1", "k-1"}),
        ("https://hooks.example/T0/B1", {"hooks.example/T0/B1"}),
        ("https://me:a${b@host", {"me", "a${b"}),
        ("https://cloud.example:8080/", set()),  # the host, which an error has to name, is none
        ("sk-1", set()),
    ],
)
def test_each_secret_part_of_a_value_is_among_the_secrets(value: str, parts: set[str], folder: Path) -> None:
    secrets = set(resolve({"url": "${V}"}, {"V": value}, folder).secrets)
    assert secrets >= {value, *parts}
    assert not any(secret.startswith("cloud.example") for secret in secrets)


def test_the_parts_of_a_url_that_references_complete_are_among_the_secrets(folder: Path) -> None:
    config = {"url": "https://${LOGIN}@host/?page=2&key=k-${K}"}
    secrets = resolve(config, {"LOGIN": "me:pw-1", "K": "1"}, folder).secrets
    assert {"me:pw-1", "me", "pw-1", "k-1"} <= set(secrets)


# -- files of sealed secrets ------------------------------------------------------------------------------------------


def test_the_names_of_sealed_secrets_are_found_in_any_text(folder: Path) -> None:
    sealed = seal({"key": "sk-1", "url": "https://u-1:p-1@host"}, folder)
    assert sealed_in(f"x{sealed}") == set(files(folder)) - {"key"}
    assert sealed_in("${KEY} sealed:12") == set()


def test_to_seal_a_secret_again_notes_that_it_is_in_use(folder: Path) -> None:
    sealed = seal({"key": "sk-1"}, folder)
    [name] = sealed_in(str(sealed))
    os.utime(folder / name, (1, 1))
    assert seal({"key": "sk-1"}, folder) == sealed
    assert (folder / name).stat().st_mtime > 1
