"""Files that Torc writes take the place of files alone."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from torc.errors import Invalid
from torc.files import write_whole


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link", "folder"])
def test_what_is_no_file_is_not_replaced_by_one(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place))
    elif kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to("/dev/null")
    elif os.geteuid() == 0:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        pytest.skip("only root can make a device")
    before = place.lstat()
    with pytest.raises(Invalid, match=r"no place for a file|is a directory"):
        write_whole(place, b"x")
    after = place.lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/torc-test-new", "/proc/self/fd/1", "/proc/torc-test-new"])
def test_nothing_is_made_in_folders_of_the_system(place: str) -> None:
    with pytest.raises(Invalid, match="no place for a file"):
        write_whole(Path(place), b"x")


def test_a_file_takes_the_place_of_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_text() == "kept"
    assert (tmp_path / "link").read_text() == "new" and not (tmp_path / "link").is_symlink()
