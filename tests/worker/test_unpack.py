"""Archives of a job's files: nothing gets out of the work directory."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from nightcrew.worker.program import PreparationError, unpack


def pack(path: Path, members: list[tuple[str, bytes, str]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o4755
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
            else:
                member.linkname = content
                tar.addfile(member)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "work"
    root.mkdir()
    return root


FILE, LINK, HARD, DIRECTORY = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def test_files_links_and_modes_are_unpacked(root: Path, tmp_path: Path) -> None:
    members = [
        (".", DIRECTORY, ""),
        ("./bin/run", FILE, "text"),
        ("bin/again", LINK, "run"),
        ("bin/same", HARD, "bin/run"),
        ("up", LINK, "bin/../bin"),
        ("bin/run", FILE, "newer"),
    ]

    count = unpack(pack(tmp_path / "a.tar.gz", members), root)

    assert count == 3
    assert (root / "bin/again").read_text() == (root / "up/run").read_text() == "newer"
    assert (root / "bin/same").read_text() == "text"
    assert os.stat(root / "bin/run").st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([("/etc/evil", FILE, "")], id="absolute"),
        pytest.param([("../outside/evil", FILE, "")], id="upwards"),
        pytest.param([("a/../../outside/evil", FILE, "")], id="upwards later"),
        pytest.param([("l", LINK, "../outside"), ("l/evil", FILE, "")], id="through a link"),
        pytest.param([("l", LINK, "../outside"), ("l/new/evil", FILE, "")], id="a directory through a link"),
        pytest.param([("l", LINK, "/etc")], id="absolute link"),
        pytest.param([("l", LINK, "../outside/evil")], id="link to nothing outside"),
        pytest.param([("m", LINK, "d/l/.."), ("d/l", LINK, "..")], id="link by way of a later link"),
        pytest.param([("h", HARD, "../outside/secret")], id="hard link"),
        pytest.param([("h", HARD, "/etc/passwd")], id="absolute hard link"),
        pytest.param([("l", LINK, "../outside/secret"), ("h", HARD, "l")], id="hard link to a link"),
        pytest.param([("p", tarfile.FIFOTYPE, "")], id="fifo"),
        pytest.param([("d", tarfile.CHRTYPE, "")], id="device"),
    ],
)
def test_what_leads_out_is_refused(root: Path, tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
    secret = tmp_path / "outside" / "secret"
    secret.write_text("secret")

    with pytest.raises(PreparationError):
        unpack(pack(tmp_path / "a.tar.gz", members), root)

    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert secret.stat().st_nlink == 1


def test_a_file_takes_the_place_of_a_link_and_is_not_written_through_it(root: Path, tmp_path: Path) -> None:
    members = [("a", FILE, "kept"), ("l", LINK, "a"), ("l", FILE, "new")]

    unpack(pack(tmp_path / "a.tar.gz", members), root)

    assert (root / "a").read_text() == "kept"
    assert (root / "l").read_text() == "new"
