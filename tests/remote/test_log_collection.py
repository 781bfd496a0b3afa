"""Logs of workers brought here: whole, once, by safe names, and further after an interruption."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

from tests.remote.conftest import Far
from tests.remote.test_workers import begun
from tests.support.running import wait_until
from torc.remote import workers
from torc.remote.log_collection import Collected, _Fetched, _Sink, collect


def bring(far: Far, wf: int, folder: Path) -> dict[str, Collected]:
    found = workers.list_workers(far.torc, wf)
    return {told.host: told for told in collect(far.torc, wf, found, far.reach, folder)}


def finished(far: Far, *jobs: dict[str, str], **fields: object) -> int:
    """Return a workflow that a worker on `far` has done."""
    wf = far.workflow(*jobs)
    far.add(wf, "far", **fields)
    assert far.start(wf)["far"].is_ok
    far.wait_for(wf, "completed")
    wait_until(lambda: far.status(wf)["far"].state == "ended", "the worker has ended")
    return wf


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_logs_come_as_they_are_there(far: Far, tmp_path: Path) -> None:
    wf = finished(
        far, {"name": "a", "command": "echo out; echo err >&2"}, {"name": "b", "command": "printf 'x\\0\\377'"}
    )
    told = bring(far, wf, tmp_path / "logs")["far"]
    there = contents(far.folder / "torc_output")
    here = contents(tmp_path / "logs/far")
    assert here == {name: content for name, content in there.items() if f"_wf{wf}_" in name}
    assert {b"out\n", b"err\n", b"x\0\xff"} <= set(here.values())
    assert any(name.startswith("job_runner_") for name in here) and f"torc_worker_wf{wf}_far.log" in here
    assert (told.is_ok, told.num_files, told.num_kept) == (True, len(here), 0)
    assert told.num_bytes == sum(map(len, here.values()))


def test_what_is_here_is_not_fetched_again_and_what_changed_is(far: Far, tmp_path: Path) -> None:
    wf = finished(far, {"name": "a", "command": "echo out"})
    first = bring(far, wf, tmp_path / "logs")["far"]
    again = bring(far, wf, tmp_path / "logs")["far"]
    assert (again.num_files, again.num_kept) == (0, first.num_files)
    log = far.folder / f"torc_output/torc_worker_wf{wf}_far.log"
    log.write_text("more")
    (tmp_path / f"logs/far/job_stdio/job_wf{wf}_j1_r1_a1.o").write_text("changed here")
    third = bring(far, wf, tmp_path / "logs")["far"]
    assert third.num_files == 2 and (tmp_path / "logs/far" / log.name).read_text() == "more"
    assert (tmp_path / f"logs/far/job_stdio/job_wf{wf}_j1_r1_a1.o").read_text() == "out\n"


def test_logs_of_other_workflows_and_links_stay_there(far: Far, tmp_path: Path) -> None:
    wf = finished(far, {"name": "a", "command": "true"})
    output = far.folder / "torc_output"
    (output / "job_stdio/job_wf99_j1_r1_a1.o").write_text("of another")
    (output / f"link_wf{wf}_x").symlink_to("/etc/passwd")
    os.mkfifo(output / f"pipe_wf{wf}_x")
    bring(far, wf, tmp_path / "logs")
    here = contents(tmp_path / "logs/far")
    assert here and not any("wf99" in name or "link" in name or "pipe" in name for name in here)


def test_odd_names_arrive_as_they_are(far: Far, tmp_path: Path) -> None:
    wf = finished(far, {"name": "a", "command": "true"})
    names = [
        f"_wf{wf}_ a'b\"c$(id);&",
        f"-rf_wf{wf}_x",
        f"_wf{wf}_line\nbreak",
        f"--checkpoint-action=exec=id _wf{wf}_",
    ]
    for name in names:
        (far.folder / "torc_output" / name).write_text(name)
    raw = os.fsencode(far.folder / "torc_output") + f"/_wf{wf}_".encode() + b"\xff\xfe"
    Path(os.fsdecode(raw)).write_text("raw")
    assert bring(far, wf, tmp_path / "logs")["far"].is_ok
    for name in names:
        assert (tmp_path / "logs/far" / name).read_text() == name
    assert (tmp_path / "logs/far" / os.fsdecode(f"_wf{wf}_".encode() + b"\xff\xfe")).read_text() == "raw"


def test_a_far_side_that_lies_cannot_write_outside_of_its_folder(far: Far, tmp_path: Path) -> None:
    wf = finished(far, {"name": "a", "command": "true"})
    evil = far.net.folder / "evil"
    evil.mkdir()
    (evil / "find").write_text(
        "#!/bin/sh\nprintf '1 1.0 ../../escaped\\0001 1.0 /tmp/escaped\\0001 1.0 ok_wf\\000x y z\\000cut'\n"
    )
    (evil / "tar").write_text(
        "#!/bin/sh\ncd /\nexec /bin/tar --create --format=pax --file=- --absolute-names "
        f"--transform 's,^{far.net.folder}/payload,../../escaped,' {far.net.folder}/payload {far.net.folder}/ok_wf "
        f"--transform 's,^{far.net.folder}/ok_wf,ok_wf,'\n"
    )
    for name in ("payload", "ok_wf"):
        (far.net.folder / name).write_text(name)
    for program in evil.iterdir():
        program.chmod(0o755)
    far.net.far.stop()
    text = far.net.far.config.read_text()
    far.net.far.config.write_text(text.replace('"PATH=', f'"PATH={evil}:'))
    far.net.far.start()
    far.reach.ssh.run(workers.parse_destination("other"), "true", seconds=30)
    told = bring(far, wf, tmp_path / "a/b/logs")["far"]
    assert contents(tmp_path / "a") == {"b/logs/far/ok_wf": b"ok_wf"}, told
    assert told.num_files == 1


def test_collecting_goes_on_where_it_was_cut(far: Far, tmp_path: Path) -> None:
    wf = finished(far, {"name": "a", "command": "true"})
    output = far.folder / "torc_output"
    for number in range(40):
        (output / f"big{number:02}_wf{wf}_").write_bytes(os.urandom(1 << 20))
    here = tmp_path / "logs/far"
    slow = far.net.folder / "slow"
    slow.mkdir()
    go = far.net.folder / "go"
    (slow / "tar").write_text(
        f'#!/bin/sh\n/bin/tar "$@" | {{ head -c 20000000; until [ -e {go} ] || [ ! -d {slow} ]; do sleep 0.05; done; cat; }}\n'
    )
    (slow / "tar").chmod(0o755)
    far.net.far.stop()
    text = far.net.far.config.read_text()
    far.net.far.config.write_text(text.replace('"PATH=', f'"PATH={slow}:'))
    far.net.far.start()

    def cut() -> None:
        wait_until(lambda: len(contents(here)) > 10 if here.exists() else False, "some files are here")
        far.net.far.cut()

    cutting = threading.Thread(target=cut)
    cutting.start()
    told = bring(far, wf, tmp_path / "logs")["far"]
    cutting.join()
    assert (told.is_ok, told.kind) == (False, "cut"), told
    whole = {name: (output / name).read_bytes() for name in contents(here)}
    assert contents(here) == whole and 5 < len(whole) < 42
    go.touch()
    again = bring(far, wf, tmp_path / "logs")["far"]
    assert again.is_ok and again.num_kept == len(whole)
    assert contents(here) == {name: text for name, text in contents(output).items() if f"_wf{wf}_" in name}


def test_logs_of_a_worker_that_runs_come_too(far: Far, tmp_path: Path) -> None:
    wf = begun(far, "far", command="echo so far; exec sleep 1000")
    out = f"job_stdio/job_wf{wf}_j1_r1_a1.o"
    wait_until(lambda: (far.folder / "torc_output" / out).read_text() == "so far\n", "the job has said something")
    assert bring(far, wf, tmp_path / "logs")["far"].is_ok
    assert (tmp_path / "logs/far" / out).read_text() == "so far\n"


def test_machines_fail_each_for_itself(far: Far, tmp_path: Path) -> None:
    wf = finished(far, {"name": "a", "command": "true"})
    far.add(wf, "other", "nowhere.invalid")
    told = bring(far, wf, tmp_path / "logs")
    assert {host: (t.is_ok, t.kind) for host, t in told.items()} == {
        "far": (True, None),
        "other": (True, None),
        "nowhere.invalid": (False, "unresolved"),
    }
    assert "no worker" in (told["other"].message or "")


def test_names_of_machines_become_folders_apart_from_each_other() -> None:
    names = ["node", "me@node", "me_node", "node:22", "[::1]:22", "[::1]"]
    folders = [workers.safe_name(name) for name in names]
    assert len(set(folders)) == len(names) and folders[0] == "node"
    assert not any(set(folder) & set("/@:[] ") for folder in folders)


def test_of_an_archive_only_files_that_were_asked_for_are_taken_and_none_outside(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("../out", "/tmp/out-of-torc-test", "./good", "a/../../out", "unasked", "linked/file"):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 3, 5
            archive.addfile(member, io.BytesIO(b"abc"))
        for kind, name in ((tarfile.SYMTYPE, "soft"), (tarfile.LNKTYPE, "hard"), (tarfile.FIFOTYPE, "pipe")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    made.seek(0)
    fetched = _Fetched()
    asked = {"../out", "/tmp/out-of-torc-test", "good", "a/../../out", "soft", "hard", "pipe"}
    with tarfile.open(fileobj=made, mode="r|") as archive:
        _Sink(tmp_path / "x/here", asked, fetched).take(archive)
    assert contents(tmp_path) == {"x/here/good": b"abc"} and fetched.names == {"good"}
    assert (tmp_path / "x/here/good").stat().st_mtime == 5
