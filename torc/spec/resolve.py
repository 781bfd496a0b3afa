"""Names, regular expressions and references of expanded objects into indexes: who reads, who writes, who waits."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence

from torc.spec.plan import USER_DATA_MARK

REFERENCE = re.compile(r"\$\{(files|user_data)\.(input|output)\.([^{}]*)\}")
Indexes = tuple[int, ...]


class Unknown(ValueError):
    """A name or a regular expression that leads nowhere; `near` are names that may have been meant."""

    def __init__(self, message: str, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = near


class Names:
    """The names of one kind of object, and their indexes."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.index: dict[str, int] = {}
        self._lists: dict[tuple[str, ...], Indexes] = {}
        self._matches: dict[str, Indexes] = {}

    def find(self, name: str) -> int:
        """Give the index of a name. Raises Unknown."""
        try:
            return self.index[name]
        except KeyError:
            near = difflib.get_close_matches(name, list(self.index)[:20_000], 3)
            raise Unknown(f"there is no {self.noun} `{name}`", near) from None

    def find_all(self, names: tuple[str, ...]) -> Indexes:
        """Give the indexes of names, without repetition. Equal lists give the same tuple."""
        known = self._lists.get(names)
        if known is None:
            known = tuple(dict.fromkeys(self.find(name) for name in names))
            if len(self._lists) < 100_000:
                self._lists[names] = known
        return known

    def match(self, pattern: str) -> Indexes:
        """Give the indexes of the names that the whole of a regular expression matches. Raises Unknown."""
        known = self._matches.get(pattern)
        if known is None:
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise Unknown(f"`{pattern}` is not a regular expression: {error}") from None
            known = tuple(index for name, index in self.index.items() if compiled.fullmatch(name))
            if not known:
                raise Unknown(f"`{pattern}` matches no {self.noun}", list(self.index)[:3])
            self._matches[pattern] = known
        return known


def merged(*parts: Indexes) -> Indexes:
    """Put index lists together without repetition; a single list is given as it is."""
    filled = [part for part in parts if part]
    if not filled:
        return ()
    if len(filled) == 1:
        return filled[0]
    return tuple(dict.fromkeys(index for part in filled for index in part))


class References:
    """Replaces references in commands and collects the relations that they declare."""

    def __init__(self, files: Names, user_data: Names, paths: Sequence[str]) -> None:
        self.names = {"files": files, "user_data": user_data}
        self.paths = paths

    def replace(self, text: str, relations: dict[tuple[str, str], list[int]]) -> str:
        """Give the text with paths and marked user data; adds (kind, direction) -> indexes. Raises Unknown."""

        def one(match: re.Match[str]) -> str:
            kind, direction, name = match.groups()
            index = self.names[kind].find(name)
            relations.setdefault((kind, direction), []).append(index)
            return shlex.quote(self.paths[index]) if kind == "files" else f"{USER_DATA_MARK}{index}{USER_DATA_MARK}"

        return REFERENCE.sub(one, text)
