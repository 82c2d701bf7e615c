"""The key file: made once with mode 0600, read strictly, never guessed."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consult.errors import SettingsError
from consult.privacy.keys import Keys, create_key_file, load_keys, read_key_file
from consult.settings import Settings


def test_the_first_start_makes_the_file_and_the_next_reads_it(tmp_path: Path) -> None:
    settings = Settings.from_env({}, data_dir=tmp_path / "data")
    first = load_keys(settings)
    assert stat.S_IMODE(settings.keys_file.stat().st_mode) == 0o600
    second = load_keys(settings)
    assert second == first
    keys = {*first.wrapping.values(), first.index_key, first.capability_key}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)


def test_starters_at_once_agree(tmp_path: Path) -> None:
    settings = Settings.from_env({}, data_dir=tmp_path)
    with ThreadPoolExecutor(8) as executor:
        keys = list(executor.map(lambda _: load_keys(settings), range(32)))
    assert all(found == keys[0] for found in keys)
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path)
    before = path.read_bytes()
    create_key_file(path)
    assert path.read_bytes() == before


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    settings = Settings.from_env({"CONSULT_KEYS": str(path)}, data_dir=tmp_path)
    with pytest.raises(SettingsError) as refused:
        load_keys(settings)
    assert refused.value.variable == "CONSULT_KEYS"
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path)
    read_key_file(path)
    path.chmod(mode)
    with pytest.raises(SettingsError, match="open to other users"):
        read_key_file(path)


def content_of(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_bytes())
    return content


@pytest.mark.parametrize(
    "change",
    [
        {"current": 2},
        {"current": "one"},
        {"keys": {}},
        {"keys": {"1": "c2hvcnQ="}},
        {"keys": {"one": "AAAA"}},
        {"index_key": "!!!"},
        {"capability_key": None},
        {"extra": 1},
    ],
)
def test_anything_else_is_refused_without_quoting_it(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path)
    content = content_of(path)
    secret = str(content["index_key"])
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(SettingsError) as refused:
        read_key_file(path)
    assert refused.value.variable == "CONSULT_KEYS"
    assert secret not in str(refused.value)


def test_older_versions_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path)
    content = content_of(path)
    old = content["keys"]
    assert isinstance(old, dict)
    content |= {"current": 2, "keys": {**old, "2": content["index_key"]}}
    path.write_text(json.dumps(content))
    keys = read_key_file(path)
    assert keys.current == 2
    assert set(keys.wrapping) == {1, 2}


def test_repr_shows_no_key() -> None:
    keys = Keys.generate()
    assert str(keys.index_key)[2:12] not in repr(keys)
    assert "wrapping" not in repr(keys)
