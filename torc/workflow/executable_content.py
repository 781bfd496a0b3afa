"""What a person must review before agreeing to a change: everything that would run, in full, and a digest of exactly that.

Jobs are grouped only if they are expansions of one template of the spec or identical. For the jobs of a template, the text is
shown with numbered placeholders, `{{1}}`, where it differs, and with every value of each placeholder; text that merely looks like
a placeholder has a brace escaped. Nothing is truncated: rare items come first, and removals come before everything else. Every
line written by others is prefixed with a bar, so that no text can imitate a line of the document itself. Reading the store is
done by `torc.operations.executable_content`; agreements are recorded elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

#: (label such as `command` or `env PATH`, text) for a job or a shared item
Parts = tuple[tuple[str, str], ...]

PAGE_CHARACTERS = 6_000
#: variables that make programs run code, or code other than it seems
EXECUTING = frozenset(
    {
        "BASH_ENV",
        "ENV",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "PATH",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONBREAKPOINT",
        "PYTHONWARNINGS",
        "PYTHONINSPECT",
        "PERL5OPT",
        "PERL5LIB",
        "PERL5DB",
        "RUBYOPT",
        "RUBYLIB",
        "NODE_OPTIONS",
        "NODE_PATH",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "CLASSPATH",
        "PROMPT_COMMAND",
        "PS4",
        "SHELLOPTS",
        "BASHOPTS",
        "IFS",
        "CDPATH",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "BROWSER",
        "LESSOPEN",
        "LESSCLOSE",
        "MANPAGER",
        "SHELL",
        "ZDOTDIR",
        "R_PROFILE",
        "R_PROFILE_USER",
        "R_ENVIRON",
        "R_ENVIRON_USER",
        "R_LIBS",
        "R_LIBS_USER",
        "JULIA_LOAD_PATH",
        "JULIA_DEPOT_PATH",
        "LUA_INIT",
        "LUA_PATH",
        "LUA_CPATH",
        "GCONV_PATH",
        "LOCPATH",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "SSH_ASKPASS",
        "GIT_EDITOR",
        "GIT_PAGER",
        "GIT_SEQUENCE_EDITOR",
        "GIT_EXTERNAL_DIFF",
        "GIT_PROXY_COMMAND",
        "GIT_EXEC_PATH",
        "GIT_TEMPLATE_DIR",
        "MAKEFLAGS",
        "MAKEFILES",
        "RUSTC_WRAPPER",
        "CC",
        "CXX",
        "TAR_OPTIONS",
        "RSYNC_RSH",
        "CVS_RSH",
        "SINGULARITY_BIND",
        "APPTAINER_BIND",
        "OPENSSL_CONF",
    }
)
_EXECUTING_FORMS = re.compile(
    r"(?:BASH_FUNC_.*|GIT_CONFIG.*|GIT_.*_COMMAND|DYLD_.*|LD_.*|SINGULARITYENV_.*|APPTAINERENV_.*)\Z"
)
_TOKEN = re.compile(r"[0-9]+|[A-Za-z_]+|\s+|.", re.DOTALL)
#: the part of a token that may continue beyond the end of a text
_INSIDE_AT_END = re.compile(r"(?:(?<![0-9])[0-9]++|(?<![A-Za-z_])[A-Za-z_]++|(?<!\s)\s++)\Z")
_INSIDE_AT_START = re.compile(r"\A(?:[0-9]+|[A-Za-z_]+|\s+)")
_WHOLE = re.compile(r"(?:0|[1-9][0-9]{0,14})\Z")
_LIKE_A_PLACE = re.compile(r"\{(?=\{[ \t]{0,16}[0-9]++[ \t]{0,16}\}\})")
_MOST_IN_SHORT = 4
_MOST_COMPARED = 50


class ShownJob(NamedTuple):
    """A job that would run, or that a change removes."""

    name: str
    parts: Parts


class SharedExecutable(NamedTuple):
    """Something executable other than a job: an action, a failure handler, the workflow's environment."""

    title: str
    parts: Parts


class RequestedResources(NamedTuple):
    """What a number of jobs request."""

    what: str
    num_jobs: int


class ExecutableContent(NamedTuple):
    """Everything that would run as a consequence of a change, and what the change does to jobs."""

    jobs: Sequence[ShownJob]
    shared: Sequence[SharedExecutable]
    asked: Sequence[RequestedResources]
    removed: Sequence[ShownJob] = ()
    changed: Sequence[tuple[ShownJob, ShownJob]] = ()  # before, after
    changes: Sequence[str] = ()  # one description each
    estimate: str = ""


def executes(variable: str) -> bool:
    """Return whether an environment variable can make a program run code that is not in its command."""
    return variable in EXECUTING or _EXECUTING_FORMS.match(variable) is not None


def digest_of(content: ExecutableContent, bound_to: Iterable[object]) -> str:
    """Return the SHA-256 of the whole content and of everything else that a plan is bound to."""
    total = hashlib.sha256()
    for kind, items in (
        ("bound", bound_to),
        ("job", content.jobs),
        ("shared", content.shared),
        ("asked", content.asked),
        ("removed", content.removed),
        ("changed", content.changed),
        ("changes", content.changes),
    ):
        total.update(json.dumps([kind, list(items)], sort_keys=True).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


class ShownKind(NamedTuple):
    """Jobs shown as one item, or a shared item."""

    num_jobs: int
    lines: Sequence[str]


class ReviewDocument(NamedTuple):
    """The text to review: lines before the items, the items starting with the rarest, and lines after them."""

    head: Sequence[str]
    kinds: Sequence[ShownKind]
    tail: Sequence[str]

    @property
    def text(self) -> str:
        return "\n".join([*self.head, *(line for kind in self.kinds for line in kind.lines), *self.tail]) + "\n"

    def within(self, most: int, where: str) -> tuple[str, bool]:
        """Return the whole text, or as many items as fit and the number of the rest; and whether it is complete.

        `where` names the command that shows the rest, such as `torc plans show 3`.
        """
        whole = self.text
        if len(whole) <= most:
            return whole, True
        shown: list[str] = []
        room, num_shown = most - sum(len(line) + 1 for line in self.tail) - 200, 0
        for line in self.head:
            room -= len(line) + 1
            if room < 0:
                return "\n".join(
                    [*shown, f"and more, and {len(self.kinds):,} kinds of what runs: see {where}"]
                ) + "\n", False
            shown.append(line)
        for kind in self.kinds:
            room -= sum(len(line) + 1 for line in kind.lines)
            if room < 0:
                break
            shown += kind.lines
            num_shown += 1
        shown.append(f"and {len(self.kinds) - num_shown:,} more kinds: see {where}")
        return "\n".join([*shown, *self.tail]) + "\n", False


def document_of(summary: str, content: ExecutableContent, template_of: Mapping[str, str]) -> ReviewDocument:
    """Compose the text to review. `template_of`: maps jobs that are exactly what a template expands to to that template."""
    head = [summary]
    if content.changes:
        head += ["", f"Changes ({len(content.changes):,}):", *(_barred(line) for line in content.changes)]
    if content.removed:
        head += ["", f"Removes {_jobs(len(content.removed))}, with all results:"]
        head += [line for kind in kinds_of(content.removed, {}) for line in kind.lines]
    head += _differences(content.changed, template_of)
    kinds = kinds_of(content.jobs, template_of)
    beside = [ShownKind(0, [f"* {item.title}", *_lines(item.parts)]) for item in content.shared]
    if not kinds and not beside:
        return ReviewDocument([*head, "", "Nothing would run as a result of this alone."], [], _tail(content))
    said = f"Would run: {_jobs(len(content.jobs))} of {len(kinds):,} kind{'' if len(kinds) == 1 else 's'}, the rarest first"
    if beside:
        said += f"; before them, {len(beside):,} thing{'' if len(beside) == 1 else 's'} that run or rule beside them"
    head += ["", f"{said}."]
    return ReviewDocument(head, [*beside, *kinds], _tail(content))


def _differences(changed: Sequence[tuple[ShownJob, ShownJob]], template_of: Mapping[str, str]) -> list[str]:
    """Show jobs whose executable content changes: each job or, if there are very many, the kinds before and after."""
    if not changed:
        return []
    lines = ["", f"Changes what {_jobs(len(changed))} run{'s' if len(changed) == 1 else ''}:"]
    if len(changed) <= _MOST_COMPARED:
        return lines + [line for before, after in changed for line in _difference(before, after)]
    for when, at in (("Before", 0), ("Afterwards", 1)):
        lines.append(f"{when}:")
        lines += [line for kind in kinds_of([pair[at] for pair in changed], template_of) for line in kind.lines]
    return lines


def _tail(content: ExecutableContent) -> list[str]:
    tail = [""] if content.asked or content.estimate else []
    tail += [f"Asks for: {_jobs(asked.num_jobs)} with {asked.what}" for asked in content.asked]
    return [*tail, content.estimate] if content.estimate else tail


def kinds_of(jobs: Sequence[ShownJob], template_of: Mapping[str, str]) -> list[ShownKind]:
    """Group jobs of the same template and identical jobs; the rarest group comes first."""
    of_template: dict[str, list[ShownJob]] = defaultdict(list)
    alike: dict[Parts, list[ShownJob]] = defaultdict(list)
    for job in jobs:
        template = template_of.get(job.name)
        if template is None:
            alike[job.parts].append(job)
        else:
            of_template[template].append(job)
    kinds = [_same(members) for members in alike.values()]
    for template, members in of_template.items():
        kinds += _of_template(template, members)
    return sorted(kinds, key=lambda kind: kind.num_jobs)


def _same(members: Sequence[ShownJob]) -> ShownKind:
    names = ", ".join(visible(job.name) for job in members[:_MOST_IN_SHORT])
    more = f" and {len(members) - _MOST_IN_SHORT:,} more, all the same" if len(members) > _MOST_IN_SHORT else ""
    return ShownKind(len(members), [f"* {_jobs(len(members))}: {names}{more}", *_lines(members[0].parts)])


def _of_template(template: str, members: Sequence[ShownJob]) -> Iterator[ShownKind]:
    """Show the jobs of a template by the shapes of their texts, with every value of each placeholder."""
    by_what: dict[tuple[str, ...], list[ShownJob]] = defaultdict(list)
    for job in members:
        by_what[tuple(what for what, _ in job.parts)].append(job)
    forms: dict[tuple[tuple[str, int], ...], list[list[list[str]]]] = defaultdict(list)
    for alike in by_what.values():
        ends = [_common_ends([job.parts[at][1] for job in alike]) for at in range(len(alike[0].parts))]
        for job in alike:
            tokens = [_tokens(text, *ends[at]) for at, (_, text) in enumerate(job.parts)]
            forms[tuple((what, len(found)) for (what, _), found in zip(job.parts, tokens, strict=True))].append(tokens)
    for form, found in forms.items():
        count = len(found)
        if count == 1 and len(members) == 1:
            yield _same(members)
            continue
        lines, values = [], list[str]()
        for at, (what, _) in enumerate(form):
            text, places = _with_places([tokens[at] for tokens in found], len(values))
            values += places
            lines += _lines(((what, text),), has_places=True)
        places_lines = [f"  {{{{{number}}}}}: {shown}" for number, shown in enumerate(values, 1)]
        yield ShownKind(count, [f"* {_jobs(count)} of the template {visible(template)}", *lines, *places_lines])


def _tokens(text: str, first: str, last: str) -> list[str]:
    middle = text[len(first) : len(text) - len(last)]
    return [first, *_TOKEN.findall(middle), last]


def _common_ends(texts: Sequence[str]) -> tuple[str, str]:
    """Return the common prefix and suffix of all texts, cut at token boundaries: tokenizing only the middle saves most of the time."""
    first = _common(min(texts), max(texts))
    room = min(map(len, texts)) - len(first)
    backwards = [text[: -room - 1 : -1] for text in texts] if room else [""]
    last = _common(min(backwards), max(backwards))[::-1]
    if len(set(texts)) == 1:
        return first, ""
    return _INSIDE_AT_END.sub("", first), _INSIDE_AT_START.sub("", last)


def _common(one: str, other: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:at]


def _with_places(rows: Sequence[Sequence[str]], first: int) -> tuple[str, list[str]]:
    """Return a text with numbered placeholders where rows of tokens differ, and the values of each placeholder."""
    text, same = list[str](), list[str]()
    shown, known = list[str](), dict[tuple[str, ...], int]()
    for column in zip(*rows, strict=True):
        if len(set(column)) == 1:
            same.append(column[0])
            continue
        if column not in known:
            known[column] = first + len(shown) + 1
            shown.append(_values(column))
        text += [_beside_places("".join(same), text, is_last=False), f"{{{{{known[column]}}}}}"]
        same.clear()
    return "".join([*text, _beside_places("".join(same), text, is_last=True)]), shown


def _beside_places(text: str, before: Sequence[str], *, is_last: bool) -> str:
    """Escape braces that would make a text look like a placeholder, alone or together with one next to it."""
    text = _without_places(text)
    if before and text.startswith("}"):
        text = f"\\x7d{text[1:]}"
    return f"{text[:-1]}\\x7b" if text.endswith("{") and not is_last else text


def _without_places(text: str) -> str:
    """Escape a brace in text that looks like a placeholder but is not: a command may contain `{{1}}` itself."""
    return _LIKE_A_PLACE.sub(r"\\x7b", text)


def _values(column: Sequence[str]) -> str:
    """Show every value; consecutive integers are shown as a range, which is just as exact."""
    distinct = list(dict.fromkeys(column))
    if len(distinct) > _MOST_IN_SHORT and all(_WHOLE.match(value) for value in distinct):
        numbers = sorted(map(int, distinct))
        if numbers[-1] - numbers[0] + 1 == len(numbers):
            return f"every whole number from {numbers[0]} to {numbers[-1]}"
    return ", ".join(visible(_without_places(value), in_line=True) for value in distinct)


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _lines(parts: Parts, *, has_places: bool = False) -> list[str]:
    lines = []
    for what, text in parts:
        if what != "command":
            name = what.removeprefix("env ")
            warned = " (makes programs run code)" if what.startswith("env ") and executes(name) else ""
            lines.append(f"  {visible(what)}{warned}:")
        lines += [_barred(line) for line in (text if has_places else _without_places(text)).split("\n")]
    return lines


def _barred(line: str) -> str:
    return f"  | {visible(line)}"


def _difference(before: ShownJob, after: ShownJob) -> list[str]:
    old, new = dict(before.parts), dict(after.parts)
    lines = [f"- {visible(after.name)}"]
    for what in dict.fromkeys([*old, *new]):
        if old.get(what) == new.get(what):
            continue
        lines.append(f"  {visible(what)}, old -> new:")
        lines += [f"  - {visible(line)}" for line in _without_places(old.get(what, "(none)")).split("\n")]
        lines += [f"  + {visible(line)}" for line in _without_places(new.get(what, "(none)")).split("\n")]
    return lines


_UNSEEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\ufff0-\ufffb\uffa0\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
#: letters of these alphabets resemble Latin ones, as do full-width and mathematical forms of ASCII
_ALIKE = "\u0370-\u058f\u13a0-\u13ff\u1c80-\u1c8f\u1f00-\u1fff\u2de0-\u2dff\ua4d0-\ua4ff\ua640-\ua69f\uab70-\uabbf"
_FORMS_OF_ASCII = re.compile(
    "[\u02b9-\u02df\u2010-\u2015\u2024\u2039\u203a\u2044\u2212\u2215\u2216\u2223\u2236\ua789\uff01-\uff5e\U0001d400-\U0001d7ff]"
)
#: a word, split into leading letters of other alphabets and the rest
_WORD = re.compile(f"(?<![A-Za-z0-9_{_ALIKE}])([{_ALIKE}]*+)([A-Za-z0-9_][A-Za-z0-9_{_ALIKE}]*+)")
_LATIN_IN_LOOK = re.compile(
    "(?<![^\\W_])[\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bd\u03bf\u03c1\u03f2\u03f3"
    "\u0405\u0406\u0408\u0410\u0412\u0415\u041a\u041c-\u041e\u0420-\u0422\u0423\u0425\u0430\u0433\u0435\u043e\u043f\u0440\u0441\u0443"
    "\u0445\u0455\u0456\u0458\u04bb\u04cf\u0501\u051b\u051d]+(?![^\\W_])"
)
_OTHER_LETTERS = re.compile(f"[{_ALIKE}]")
_BLANKS = re.compile(r"(?<![ \t])[ \t]{3,}+(?=\S)")
#: gaps as wide as these, within a line or before it, push the text out of sight
_WIDEST_GAP, _WIDEST_INDENT = 24, 80


def visible(text: str, *, in_line: bool = False) -> str:
    """Escape what would be invisible, would change how other text looks, or resembles something else.

    That is: control characters, text directions, unusual spaces, foreign letters in words that look Latin, and wide gaps.
    """
    shown = _UNSEEN.sub(_written, text)
    if not shown.isascii():
        shown = _FORMS_OF_ASCII.sub(_written, shown)
        shown = _WORD.sub(_mixed_written, shown)
        shown = _LATIN_IN_LOOK.sub(lambda word: _OTHER_LETTERS.sub(_written, word[0]), shown)
    shown = _BLANKS.sub(_short_gap, shown)
    return shown.replace(" ", "\\x20").replace(",", "\\x2c") if in_line else shown


def _mixed_written(word: re.Match[str]) -> str:
    """Escape the letters of other alphabets in a word that also contains Latin letters or digits; linear in its length."""
    first, rest = word.groups()
    begins = first if rest[0].isdigit() else _OTHER_LETTERS.sub(_written, first)
    return begins + _OTHER_LETTERS.sub(_written, rest)


def _short_gap(found: re.Match[str]) -> str:
    width = len(found[0].expandtabs())
    return found[0] if width <= (_WIDEST_GAP if found.start() else _WIDEST_INDENT) else f"\\x20{{{width}}}"


def _written(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def pages_of(document: str) -> list[str]:
    """Split a document into pages between lines, or within a line longer than a page. Together they are the whole document."""
    pages: list[str] = []
    for line in document.splitlines(keepends=True):
        for start in range(0, len(line), PAGE_CHARACTERS):
            piece = line[start : start + PAGE_CHARACTERS]
            if pages and len(pages[-1]) + len(piece) <= PAGE_CHARACTERS:
                pages[-1] += piece
            else:
                pages.append(piece)
    return pages or [""]


_REDACTED = re.compile(r"\[redacted: [a-z ]+\]")
#: characters that secrets do not need but code does
_CODE = re.compile(r"[\s$`;|&<>(){}\\!*?\"']")
_LONGEST_SECRET = 256
#: variables used as commands, and lines that execute the content of variables
_COMMAND = re.compile(
    r"(?:^|[;&|({`!]|(?<!\w)(?:then|do|else|elif|if|while|until|time)(?=[ \t]))[ \t]*+[\"']?\$\{?([A-Za-z_][A-Za-z0-9_]*)"
)
_RUNS_TEXT = re.compile(r"(?<![\w-])(?:eval|exec|source|command|env|sudo|nohup|xargs|trap|(?:ba|da|z|k)?sh)(?![\w-])")
_VARIABLE = re.compile(r"\$\{?!?([A-Za-z_][A-Za-z0-9_]*)")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=[\"']?\Z")


def without_secrets(text: str, redact: Callable[[str], str]) -> str:
    """Redact line by line, but nothing that could be code: a command must not be hidden because it looks like a password."""
    lines = text.split("\n")
    executed = frozenset(name for line in lines for name in _executed(line))
    return "\n".join(_line_without_secrets(line, redact, executed) for line in lines)


def _executed(line: str) -> list[str]:
    """Return the variables whose values a line may execute."""
    if "$" not in line:
        return []
    return (_VARIABLE if _RUNS_TEXT.search(line) else _COMMAND).findall(line)


def _line_without_secrets(line: str, redact: Callable[[str], str], executed: frozenset[str]) -> str:
    shown = redact(line)
    first, *rest = _REDACTED.split(shown)
    if not rest or not line.startswith(first):
        return line
    at = len(first)
    for number, piece in enumerate(rest, 1):
        found = len(line) - len(piece) if number == len(rest) else line.find(piece, at)
        if found < at or not line.startswith(piece, found):
            return line
        hidden = line[at:found]
        if _CODE.search(hidden) or len(hidden) > _LONGEST_SECRET:
            return line
        to = _ASSIGNED.search(line, max(0, at - 200), at)
        if to is not None and to[1] in executed:
            return line
        at = found + len(piece)
    return shown
