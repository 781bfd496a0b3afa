"""Resolve names, regular expressions and references to indexes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from torc.regular_expressions import BadPattern, MatchBudget, SearchableNames, TooCostly
from torc.spec.expansion.references import REFERENCE, MalformedReference, find_astray
from torc.spec.plan import USER_DATA_MARK

Indexes = tuple[int, ...]
_MOST_SHOWN = 200


class UnknownName(ValueError):
    """A name or regular expression that matches nothing. `name` is what to compare with the known names, if any.

    `within` is the part of the text that contains it, if not all of it.
    """

    def __init__(self, message: str, name: str = "", known: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.name, self.known = name, known
        self.within: str | None = None


class NoReference(ValueError):
    """Text in a command that looks like a reference but is not valid."""

    def __init__(self, astray: MalformedReference) -> None:
        super().__init__(astray.message)
        self.astray = astray


class UnsuitablePattern(UnknownName):
    """A regular expression that cannot be used."""

    def __init__(self, message: str, part: str = "", hint: str | None = None, *, too_many: bool = False) -> None:
        super().__init__(message)
        self.within = part or None
        self.hint, self.too_many = hint, too_many


class _Index(dict[str, int]):
    """Indexes by name; a missing name raises UnknownName."""

    def __init__(self, noun: str) -> None:
        super().__init__()
        self.noun = noun

    def __missing__(self, name: str) -> int:
        raise UnknownName(f"there is no {self.noun} `{name}`", name, self)


class Names:
    """The names of one kind of object, with their indexes."""

    def __init__(self, noun: str, effort: MatchBudget | None = None) -> None:
        self.noun = noun
        self.index = _Index(noun)
        self._matches: dict[str, Indexes] = {}
        self._effort = effort or MatchBudget()
        self._searched: SearchableNames | None = None

    def find(self, name: str) -> int:
        """Return the index of a name. Raises UnknownName."""
        return self.index[name]

    def match(self, pattern: str) -> Indexes:
        """Return the indexes of the names that a regular expression matches completely. Raises UnknownName.

        All names must have been added before.
        """
        known = self._matches.get(pattern)
        if known is None:
            if self._searched is None:
                self._searched = SearchableNames(list(self.index), self._effort)
            try:
                known = tuple(self._searched.matching(pattern))
            except BadPattern as error:
                what = f"`{shortened(pattern)}` is not a usable regular expression: {error}"
                raise UnsuitablePattern(what, error.part, error.hint) from None
            except TooCostly as error:
                raise UnsuitablePattern(str(error), hint="start them with fixed text", too_many=True) from None
            if not known:
                raise UnknownName(f"`{shortened(pattern)}` matches no {self.noun}", _literal(pattern), self.index)
            self._matches[pattern] = known
        return known


def shortened(pattern: str) -> str:
    """Shorten a pattern for a message."""
    return pattern if len(pattern) <= _MOST_SHOWN else f"{pattern[:_MOST_SHOWN]}..."


def _literal(pattern: str) -> str:
    return re.sub(r"\\(\W)|[\\^$.*+?|(){}\[\]]", r"\1", pattern)


def distinct(indexes: Iterable[int]) -> Indexes:
    """Remove duplicates, keeping the order."""
    return tuple(dict.fromkeys(indexes))


def merged(*parts: Indexes) -> Indexes:
    """Concatenate index lists without duplicates; a single list is returned unchanged."""
    filled = [part for part in parts if part]
    if len(filled) == 1:
        return filled[0]
    return distinct(index for part in filled for index in part)


class References:
    """Replaces references in commands and collects the relations that they declare."""

    def __init__(self, files: Names, user_data: Names, paths: Sequence[str]) -> None:
        self.names = {"files": files, "user_data": user_data}
        self.paths = paths

    def replace(self, text: str, relations: dict[str, list[int]]) -> str:
        """Return the text with paths and marked user data; adds indexes to `input_files` and so on.

        Raises UnknownName and NoReference.
        """
        for astray in self.astray(text):
            if astray.severity == "error":
                raise NoReference(astray)

        def one(match: re.Match[str]) -> str:
            kind, direction, name = match.groups()
            try:
                index = self.names[kind].find(name)
            except UnknownName as error:
                error.within = match[0]
                raise
            relations.setdefault(f"{direction}_{kind}", []).append(index)
            if kind == "files":
                # the path is missing if the file has a problem of its own, in which case there is no plan either
                return quoted(self.paths[index] if index < len(self.paths) else name, text, match.start())
            return f"{USER_DATA_MARK}{index}{USER_DATA_MARK}"

        return REFERENCE.sub(one, text)

    def astray(self, text: str) -> Iterable[MalformedReference]:
        """Yield malformed references."""
        return find_astray(text, lambda name: any(name in names.index for names in self.names.values()))


def quoted(path: str, command: str, position: int) -> str:
    """Quote a path if the shell requires it, as the context in the command demands: bare, in '...' or in "..."."""
    if shlex.quote(path) == path:
        return path
    within = quotes_open_at(command, position)
    if within == '"':
        return re.sub(r'([\\$`"])', r"\\\1", path)
    if within == "$'":
        return re.sub(r"([\\'])", r"\\\1", path)
    if within == "'":
        return path.replace("'", "'\\''")
    return shlex.quote(path)


_SHELL = re.compile(r"""\\.|\$'|'|"|\$\(|[()]|(?:(?<=\s)|\A)\#[^\n]*""", re.DOTALL)


def quotes_open_at(command: str, position: int) -> str:
    r"""Return the quote that is open at a place of a shell command: `'`, `"`, `$'` or nothing.

    Follows the quoting rules of POSIX sh (section 2.2) and bash, with `$(...)` inside "..." as a context of its own. Not for
    here-documents, in which quotes mean nothing to the shell.
    """
    contexts = [""]
    at = 0
    while (match := _SHELL.search(command, at, position)) is not None:
        token, context, at = match[0], contexts[-1], match.end()
        if token[0] == "#" and context:  # a comment can only start outside of quotes
            at = match.start() + 1
        elif context == "'":
            if token[-1] == "'":  # a backslash has no effect in single quotes
                contexts.pop()
        elif context == "$'":
            if token in {"'", "$'"}:
                contexts.pop()
        elif token == '"':
            contexts.pop() if context == '"' else contexts.append(token)
        elif token in {"'", "$'"}:
            contexts.extend([token] if context != '"' else ())
        elif token == "$(" or (token == "(" and context == ""):
            contexts.append("")
        elif token == ")" and context == "" and len(contexts) > 1:
            contexts.pop()
    return contexts[-1]
