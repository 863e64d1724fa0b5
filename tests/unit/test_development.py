"""What `pgtide dev` has for back ends on the same machine."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from engine.configuration.settings import Settings
from engine.errors import SettingsError
from engine.processes.development import greet, no_file_left, secret_key


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    key = secret_key(folder)
    assert secret_key(folder) == key
    assert secret_key(tmp_path / "other") != key
    assert [path.name for path in folder.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    # The SDK signs with such a key itself; one like `tr_dev_sk_…` would make it ask the server.
    assert re.fullmatch(r"tr_dev_[0-9a-f]{32}", key)
    assert not re.fullmatch(r"tr_(dev|stg|prod|preview)_sk_[A-Za-z0-9]{24}", key)


def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    with pytest.raises(SettingsError, match="delete it"):
        secret_key(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be used"):
        secret_key(tmp_path / "file")


def test_a_file_names_all_that_back_ends_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://u@h/d?host=a&x=b")
    for port in (1, 2):
        greet("tr_dev_1", f"http://127.0.0.1:{port}", settings)
    path = tmp_path / "dev.env"
    mark, *lines = path.read_text().splitlines()
    assert mark.startswith("#")
    assert lines == [
        "DATABASE_URL='postgresql://u@h/d?host=a&x=b'",
        "TRIGGER_API_URL='http://127.0.0.1:2'",
        "TRIGGER_SECRET_KEY='tr_dev_1'",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["dev.env"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(
        "Back ends: TRIGGER_API_URL=http://127.0.0.1:2 TRIGGER_SECRET_KEY"
    )


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greet("tr_dev_1", "http://127.0.0.1:1", Settings(data_dir=tmp_path / "no"))
    assert "cannot be written" in capsys.readouterr().out


def test_the_file_is_there_only_while_it_is_true(tmp_path: Path) -> None:
    path = tmp_path / "dev.env"
    path.write_text("of one that was killed")
    with no_file_left(tmp_path):
        assert not path.exists()
        greet("tr_dev_1", "http://127.0.0.1:1", Settings(data_dir=tmp_path))
    assert not path.exists()
    with no_file_left(tmp_path):
        greet("tr_dev_1", "http://127.0.0.1:1", Settings(data_dir=tmp_path))
        path.write_text("of one that took over")
    assert path.read_text() == "of one that took over"
    with no_file_left(tmp_path / "no"):
        pass
