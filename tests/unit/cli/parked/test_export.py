"""The file that parked requests are written to."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.unit.cli.parked.parked_messages import BODY, parked_request
from worker.cli.common import OutputError
from worker.cli.parked.export import STANDARD_OUTPUT, RequestFile


def test_file_has_one_line_per_request_and_is_made_with_the_first(tmp_path: Path) -> None:
    """Nothing to write makes no file."""
    file = RequestFile(tmp_path / "x.jsonl")
    file.write([])
    assert not file.path.exists()

    file.write([parked_request()])
    assert json.loads(json.loads(file.path.read_text())["body"]) == json.loads(BODY)  # without closing it
    file.write([parked_request(), parked_request()])
    file.close(is_needed=True)

    assert len(file.path.read_text().splitlines()) == 3


@pytest.mark.parametrize("is_needed", [True, False])
def test_file_that_is_not_needed_is_removed(tmp_path: Path, *, is_needed: bool) -> None:
    """A file that holds the only copy stays."""
    file = RequestFile(tmp_path / "x.jsonl")
    file.write([parked_request()])
    file.close(is_needed=is_needed)

    assert file.path.exists() is is_needed


def test_existing_file_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    """The sentence says what to do."""
    path = tmp_path / "x.jsonl"
    path.write_text("precious")
    file = RequestFile(path)

    with pytest.raises(OutputError, match="exists and is not overwritten; choose another one with --to"):
        file.write([parked_request()])
    file.close(is_needed=False)

    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "words"), [("none/x.jsonl", "No such file or directory"), ("file/x.jsonl", "Not a directory")]
)
def test_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, name: str, words: str) -> None:
    """It names the file and the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        RequestFile(tmp_path / name).write([parked_request()])

    expected = f"Cannot write to the file {tmp_path / name}: {words}. Choose another one with --to; --to - is standard"
    assert str(caught.value).startswith(expected)


def test_standard_output_gets_the_lines_and_stays_open(capsys: pytest.CaptureFixture[str]) -> None:
    """`--to -` makes no file of this name."""
    file = RequestFile(STANDARD_OUTPUT)
    file.write([parked_request()])
    file.close(is_needed=False)

    assert json.loads(capsys.readouterr().out)["request_id"] == "r"
    assert not STANDARD_OUTPUT.exists()


def test_full_disk_behind_standard_output_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before a request is deleted."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        with pytest.raises(OutputError, match="Cannot write to standard output: No space left on device"):
            RequestFile(STANDARD_OUTPUT).write([parked_request()])
