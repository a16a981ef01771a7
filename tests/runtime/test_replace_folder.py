"""A folder, or a file, is there whole or not at all, and of two that write it at once only one takes its place."""

from pathlib import Path

import pytest

from burnish.runtime.replace_folder import replace_file, replace_folder


def write(folder: Path, text: str) -> None:
    (folder / "file").write_text(text)


@pytest.mark.parametrize("there", [False, True], ids=["new", "in the place of another"])
def test_the_later_of_two_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
        write(out, "before")
    refused = pytest.raises(FileExistsError, match="another process has written it in the meantime")
    with refused, replace_folder(out) as mine:
        write(mine, "the later")
        monkeypatch.setattr("os.getpid", lambda: 1)  # which is running
        with replace_folder(out) as theirs:
            write(theirs, "the first")
    assert (out / "file").read_text() == "the first"
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_somebody_adds_meanwhile_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(FileExistsError), replace_folder(out):
        write(out, "a letter")
    assert (out / "file").read_text() == "a letter"


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for target in ("real", "nowhere"):
        link = tmp_path / f"to {target}"
        link.symlink_to(target)
        with pytest.raises(OSError, match="it is a link to"), replace_folder(link):
            raise AssertionError
        assert link.is_symlink()


def test_the_root_is_no_place() -> None:
    with pytest.raises(OSError, match="/ is the root of the file system"), replace_folder(Path("/")):
        raise AssertionError


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_a_file_is_left_as_it_was_where_its_writer_ends_early(tmp_path: Path, end: BaseException) -> None:
    out = tmp_path / "out"
    for before in (None, "before"):
        if before is not None:
            out.write_text(before)
        with pytest.raises(end if isinstance(end, type) else OSError), replace_file(out) as file:
            file.write(b"half of")
            raise end
        assert [p.read_text() for p in tmp_path.iterdir()] == [before] * (before is not None)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "nowhere" / "x", Path("/dev/full")):
        with pytest.raises(OSError, match=f"{out}: cannot be written: [A-Z]"), replace_file(out) as file:
            file.write(b"text")


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    for out in (link, Path("/dev/null")):
        with replace_file(out) as file:
            file.write(b"text")
    assert link.is_symlink() and link.read_text() == "text"
    assert Path("/dev/null").is_char_device()
