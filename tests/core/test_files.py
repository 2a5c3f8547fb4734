"""Small files: whole or not at all, and read with care."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from egowm_core.errors import DataError
from egowm_core.files import read_json, write_text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "facts.json"
    write_text(path, json.dumps({"a": 1}))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, json.dumps({"a": 2}))
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read"), (b"{", "cannot read"), (b"\xff\xfe\x00", "cannot read"), (b"1" * 2000, "over 1000 bytes")],
)
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "facts.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_json(path, max_bytes=1000)
    assert "\n" not in str(error.value)
