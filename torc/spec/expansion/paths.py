"""Determine which paths are the same file, and who writes what is read, since one file can have several paths.

Paths are compared as text: `.`, `..`, and doubled and trailing slashes are ignored. Symbolic links must be resolved by whoever can
see the file system, and are passed in as `links`. A file below a folder that a job writes belongs to that job, unless another job
writes the file itself. A job that reads a folder reads what other jobs write into it, unless it writes there too.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Place = Callable[[str], str]


def place_of(path: str, directory: str | None = None) -> str:
    """Return the canonical form of a path: relative if it is below the directory to which relative paths refer."""
    found = posixpath.normpath(path)
    if found.startswith("//"):  # implementation-defined in POSIX; no meaning on Linux
        found = found[1:]
    if directory is None or not found.startswith(("/", "..")):
        return found
    base = posixpath.normpath(directory)
    found = posixpath.normpath(posixpath.join(base, found))
    if found == base:
        return "."
    return found.removeprefix("/" if base == "/" else base + "/")


def placing(directory: str | None = None, links: Mapping[str, str] | None = None) -> Place:
    """Return a function that returns the canonical form of a path."""
    known = links or {}
    return lambda path: known.get(path) or place_of(path, directory)


def folder_of(place: str) -> str | None:
    """Return the folder that contains a path; None if there is none."""
    head, slash, last = place.rpartition("/")
    if not slash:
        return None if place in {".", ".."} else "."
    return (head or "/") if last not in {"", ".."} else None


def _with_parents(folder: str | None) -> Iterator[str]:
    while folder is not None:
        yield folder
        folder = folder_of(folder)


@dataclass(frozen=True, slots=True)
class NestedOutput:
    """An output inside a folder that is the output of another job."""

    folder: int  # index of a file
    folder_job: int
    inside: int
    inside_job: int


@dataclass(slots=True)
class WrittenPaths:
    """Who writes what, by canonical path. Files and jobs are indexes."""

    #: the job that writes each file, under any of its names; for a folder that jobs write into, one of these jobs
    producer: dict[int, int]
    #: for files that are read: the jobs that write only their folder, or into them
    nearby: dict[int, tuple[int, ...]] = field(default_factory=dict)
    #: two names of the same file, written by different jobs
    clash: tuple[int, int] | None = None
    nested: list[NestedOutput] = field(default_factory=list)
    #: by job: folders that are read and that it writes into
    _inside: dict[int, set[str]] = field(default_factory=dict)
    _places: Sequence[str] = ()

    def writers(self, file: int, reader: int | None = None) -> tuple[int, ...]:
        """Return the jobs that write a file, from the point of view of a reader that waits for them."""
        found = self.nearby.get(file)
        if found is None:
            return (self.producer[file],) if file in self.producer else ()
        if reader is None:
            return found
        is_inside = self._places[file] in self._inside.get(reader, ())
        return () if is_inside else tuple(job for job in found if job != reader)


def written(places: Sequence[str], producer: Mapping[int, int], read: Sequence[int]) -> WrittenPaths:
    """Determine who writes what. `producer`: the declared job of each file; `read`: files that are read, without duplicates."""
    found = WrittenPaths(dict(producer), _places=places)
    if not producer:
        return found
    writer: dict[str, int] = {}  # path -> file
    for file, job in producer.items():
        first = writer.setdefault(places[file], file)
        if producer[first] != job:
            found.clash = (first, file)
            return found
    _nest(found, places, producer, writer)
    _find_for_readers(found, places, producer, writer, read)
    return found


def _nest(found: WrittenPaths, places: Sequence[str], producer: Mapping[int, int], writer: Mapping[str, int]) -> None:
    above: dict[
        str | None, int | None
    ] = {}  # folder -> the written file that is this folder or its nearest written ancestor
    for place, file in writer.items():
        folder = _nearest(folder_of(place), writer, above)
        if folder is not None and producer[folder] != producer[file]:
            found.nested.append(NestedOutput(folder, producer[folder], file, producer[file]))


def _nearest(folder: str | None, writer: Mapping[str, int], above: dict[str | None, int | None]) -> int | None:
    if folder not in above:
        above[folder] = next((writer[at] for at in _with_parents(folder) if at in writer), None)
    return above[folder]


def _find_for_readers(
    found: WrittenPaths,
    places: Sequence[str],
    producer: Mapping[int, int],
    writer: Mapping[str, int],
    read: Sequence[int],
) -> None:
    above: dict[str | None, int | None] = {}
    folders: dict[str, list[int]] = defaultdict(list)  # not written by any job: perhaps a folder that jobs write into
    for file in read:
        if file in producer:
            continue
        place = places[file]
        same = writer.get(place)
        if same is not None:
            found.producer[file] = producer[same]
            continue
        around = _nearest(folder_of(place), writer, above)
        if around is not None:
            found.producer[file] = producer[around]
            found.nearby[file] = (producer[around],)
        else:
            folders[place].append(file)
    if not folders:
        return
    into: dict[str, dict[int, None]] = defaultdict(dict)
    holding: dict[str | None, list[str]] = {}
    for place, file in writer.items():
        folder = folder_of(place)
        if folder not in holding:
            holding[folder] = [at for at in _with_parents(folder) if at in folders]
        for at in holding[folder]:
            into[at][producer[file]] = None
            found._inside.setdefault(producer[file], set()).add(at)
    for at, jobs in into.items():
        for file in folders[at]:
            found.nearby[file] = tuple(jobs)
            found.producer[file] = min(jobs)
