"""Diagnose why an attempt failed: from facts to a category with a confidence and the evidence. Messages are in `log_patterns`.

Three kinds of evidence are weighed. What the runner or the cluster did is certain (it killed the job at a limit, the node died).
What the program printed has the weight of the matching symptom; a line that calls itself a warning, or announces a retry, counts
for less. How the process ended (exit code, signal, memory and time compared with the request) is conclusive where the figures are,
and otherwise a guess. Evidence for the same category adds up: 1 - (1 - a)(1 - b).
"""

from __future__ import annotations

import re
import signal
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import NamedTuple

from torc.failures.categories import Category, Remedy
from torc.failures.fingerprint import normalised, program_of
from torc.failures.log_patterns import SYMPTOMS, Symptom
from torc.redaction import redact
from torc.units import human_bytes, human_duration
from torc.workflow.exit_codes import signal_name, signal_of
from torc.workflow.resources import ResourceRequest

_MOST_TEXT = 256 * 1024
_MOST_LINES = 5
#: a line with at least this many non-text characters may be binary data
_MOST_STRANGE = 4
#: lines that a pattern is tried on, and matches that it may yield
_MOST_TRIED, _MOST_GIVEN = 20, 3
_LONGEST_LINE = 500
#: a peak of at least this share of the request counts as all of it: samples and accounting miss the last moment
_NEARLY = 0.9
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MILD = re.compile(
    r"\bwarn(ing)?s?\b|deprecat|\bretry|retries left|attempt \d+ ?(of|/)|will (be )?(retried|ignored?|try)|ignor(ing|ed)|"
    r"non-fatal|falling back|trying again|recover(ed|ing)|skipp(ing|ed)|\bINFO\b|\bDEBUG\b",
    re.IGNORECASE,
)
#: what launchers and communication libraries print when another process has ended
_OF_LAUNCHERS = re.compile(r"btl_tcp|PMIX|PRTE|\borte|prterun|mpirun|mpiexec|hydra|srun: error", re.IGNORECASE)
_MILDLY = 0.6
#: factor for a line with a stronger other meaning
_ALSO = 0.3
#: reasons for which runners stop an attempt at a limit
_AT_A_LIMIT = frozenset({"timeout", "out_of_memory"})


@dataclass(frozen=True, slots=True)
class Log:
    """The end of an attempt's output. `first_line` is the number of its first line in the file, if known."""

    name: str
    text: str
    first_line: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """What is known about an attempt. Memory is in bytes, times in seconds; return codes are those of `exit_codes`."""

    ending: str = "failed"  # failed | terminated | canceled
    reason: str | None = None
    detail: str | None = None
    return_code: int | None = None
    command: str = ""
    memory_request: int | None = None
    peak_memory: int | None = None
    runtime_request: float | None = None
    wall_seconds: float | None = None
    slurm_state: str | None = None
    logs: tuple[Log, ...] = ()


def bounds_of(request: ResourceRequest, reason: str | None) -> tuple[int | None, int | None]:
    """Return the memory and time limits of an attempt; None where nobody chose one.

    The default runtime counts only if it ended the attempt.
    """
    runtime = request.runtime_seconds
    is_chosen = runtime != ResourceRequest().runtime_seconds or reason == "timeout"
    return request.memory_bytes if request.asks_memory else None, runtime if is_chosen else None


@dataclass(frozen=True, slots=True)
class LogQuote:
    """A line of a log that is evidence, and where it is."""

    log: str
    line: int | None
    text: str


@dataclass(frozen=True, slots=True)
class FailureDiagnosis:
    """Why an attempt failed. `figures` are facts in words; `what` and `advice` are sentences for users."""

    category: Category
    confidence: float
    what: str
    advice: str
    remedy: Remedy
    quotes: tuple[LogQuote, ...] = ()
    figures: tuple[str, ...] = ()
    program: str = ""
    fingerprint: str = ""


class _Clue(NamedTuple):
    """Evidence for a category. `at` is the position of the line, later is larger."""

    category: Category
    weight: float
    figure: str | None = None
    quote: LogQuote | None = None
    at: int = 0
    what: str | None = None


@dataclass(slots=True)
class _Case:
    """The evidence for a category."""

    clues: list[_Clue] = field(default_factory=list)

    def score(self) -> float:
        """Combine the best evidence from figures and the two best lines."""
        figures = sorted((clue.weight for clue in self.clues if clue.quote is None), reverse=True)[:1]
        lines = sorted((clue.weight for clue in self.clues if clue.quote is not None), reverse=True)
        # a second line of the same kind is seldom news
        doubt = 1.0
        for weight in (*figures, *lines[:1], *(0.3 * weight for weight in lines[1:2])):
            doubt *= 1.0 - weight
        return 1.0 - doubt


@lru_cache(maxsize=512)  # clients that follow a workflow ask about the same failures every few seconds
def diagnose(facts: AttemptFacts) -> FailureDiagnosis:
    """Diagnose why an attempt failed. The result contains no secrets from commands or logs."""
    facts = replace(
        facts, command=redact(facts.command), detail=facts.detail and redact(facts.detail), logs=_redacted(facts.logs)
    )
    clues = [*_certain(facts), *_of_ending(facts), *_of_logs(facts.logs)]
    cases: dict[Category, _Case] = {}
    for clue in clues:
        cases.setdefault(clue.category, _Case()).clues.append(clue)
    if not cases:
        cases[Category.UNKNOWN] = _Case([_Clue(Category.UNKNOWN, 0.2)])
    category, case = max(cases.items(), key=lambda item: (item[1].score(), item[0] is not Category.UNKNOWN))
    quotes = _quotes(case.clues)
    own = next((clue.what for clue in sorted(case.clues, key=lambda clue: -clue.weight) if clue.what), None)
    advice = _OWN_ADVICE.get(facts.reason or "", category.advice)
    figures = tuple(dict.fromkeys(clue.figure for clue in case.clues if clue.figure is not None))
    program = program_of(_REDACTED.sub("[redacted]", facts.command))
    last = quotes[-1].text if quotes else _last_line(facts.logs)
    if facts.reason in _AT_A_LIMIT:
        last = ""  # output before it was stopped is not an error, and the shell's `Killed` may or may not appear
    return FailureDiagnosis(
        category=category,
        confidence=round(min(case.score(), 0.99 if category is not Category.UNKNOWN else 0.6), 2),
        what=own or category.label,
        advice=advice,
        remedy=category.remedy,
        quotes=quotes,
        figures=figures or _figures(facts),
        program=program,
        fingerprint=" | ".join((category, program, normalised(last))),
    )


#: a placeholder with a kind has two words, and the second would look like a program
_REDACTED = re.compile(r"\[redacted: [a-z ]{1,30}\]")


def _redacted(logs: Sequence[Log]) -> tuple[Log, ...]:
    """Redact whole logs: a single line does not show that it is in the middle of a key."""
    return tuple(replace(log, text=redact(log.text)) for log in logs)


@dataclass(frozen=True, slots=True)
class LogFinding:
    """One of the problems that logs show, with the lines as evidence."""

    category: Category
    confidence: float
    what: str
    advice: str
    quotes: tuple[LogQuote, ...]


def tellings(logs: Sequence[Log], least: float = 0.5) -> tuple[LogFinding, ...]:
    """Return every problem that the logs of many processes show, most certain first."""
    cases: dict[Category, _Case] = {}
    for clue in _of_logs(_redacted(logs)):
        cases.setdefault(clue.category, _Case()).clues.append(clue)
    found = []
    for category, case in cases.items():
        own = next((clue.what for clue in sorted(case.clues, key=lambda clue: -clue.weight) if clue.what), None)
        confidence = round(min(case.score(), 0.99), 2)
        found.append(LogFinding(category, confidence, own or category.label, category.advice, _quotes(case.clues)))
    sure = [telling for telling in found if telling.confidence >= least]
    return tuple(sorted(sure, key=lambda telling: -telling.confidence))


# -- certain facts ----------------------------------------------------------------------------------------------

_BY_REASON: Mapping[str, tuple[Category, str]] = {
    "timeout": (Category.TIMEOUT, "it was stopped at its time limit"),
    "out_of_memory": (Category.OUT_OF_MEMORY, "it was stopped for using more memory than it requested"),
    "runner_lost": (Category.NODE_FAILURE, "its runner was lost"),
    "runner_stopped": (Category.KILLED_BY_USER, "its runner was stopped"),
    "canceled": (Category.KILLED_BY_USER, "it was canceled"),
    "parent_killed": (Category.KILLED_BY_USER, "it was killed with the process that started it"),
    "missing_output": (Category.MISSING_FILE, "it exited with code 0, but did not write all its outputs"),
}
#: a headline of its own where that of the category would be misleading
_OWN_WORDS = {
    "missing_output": "it did not write a file that it declares as an output",
    "parent_killed": "it was killed with the process that started it",
}
_OWN_ADVICE = {
    "parent_killed": "look for what killed that process, such as a job that kills its parent ($PPID) or programs by name",
    "missing_output": "have the command write it, or correct its path in the spec",
}
_BY_SLURM: Mapping[str, Category] = {
    "OUT_OF_MEMORY": Category.OUT_OF_MEMORY,
    "TIMEOUT": Category.TIMEOUT,
    "DEADLINE": Category.TIMEOUT,
    "NODE_FAIL": Category.NODE_FAILURE,
    "BOOT_FAIL": Category.NODE_FAILURE,
    "PREEMPTED": Category.PREEMPTED,
    "CANCELLED": Category.KILLED_BY_USER,
}
#: ends that hit the runner, and its jobs with it
_TAKES_THE_RUNNER = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"})


def _certain(facts: AttemptFacts) -> Iterable[_Clue]:
    """Yield what the runner and the cluster did themselves."""
    found = _BY_REASON.get(facts.reason or "")
    state = (facts.slurm_state or "").partition(" ")[0].rstrip("+")
    if found is not None:
        category, text = found
        weight = 0.9 if state in _TAKES_THE_RUNNER and (facts.reason or "").startswith("runner_") else 0.99
        yield _Clue(
            category, weight, ": ".join(filter(None, (text, facts.detail))), what=_OWN_WORDS.get(facts.reason or "")
        )
    if state in _BY_SLURM:
        yield _Clue(_BY_SLURM[state], 0.98, f"Slurm says {facts.slurm_state}")
    if facts.reason == "not_started" and facts.detail:
        yield from _of_logs([Log("why it was not started", facts.detail)])


# -- how it ended -----------------------------------------------------------------------------------------------


def _of_ending(facts: AttemptFacts) -> Iterable[_Clue]:
    """Yield the evidence from exit code, signal and figures."""
    number = signal_of(facts.return_code)
    name = signal_name(number or 0)
    use = _share(facts.peak_memory, facts.memory_request)
    if use is not None and use >= 1.0 and number != signal.SIGKILL:  # in that case there is more to say below
        yield _Clue(Category.OUT_OF_MEMORY, 0.35, _memory(facts))
    if number == signal.SIGKILL:
        if use is not None and use >= _NEARLY:
            yield _Clue(Category.OUT_OF_MEMORY, 0.9, f"killed ({name}), {_memory(facts)}")
        else:
            weight = 0.45 if use is None or use >= 0.5 else 0.3
            yield _Clue(Category.OUT_OF_MEMORY, weight, f"killed ({name}), as the kernel does when memory is used up")
            yield _Clue(Category.KILLED_BY_USER, 0.3, f"killed ({name})")
    spent = _share(facts.wall_seconds, facts.runtime_request)
    if spent is not None and spent >= 0.99:
        yield _Clue(
            Category.TIMEOUT, 0.8 if number in {signal.SIGTERM, signal.SIGKILL, signal.SIGXCPU} else 0.3, _time(facts)
        )
    if facts.reason == "timeout" and number == signal.SIGXCPU:  # the code for the time limit, not a signal
        return
    for category, weight, text in _BY_SIGNAL.get(number or 0, ()):
        yield _Clue(
            category,
            weight,
            f"{text} ({name})",
            what=f"the program crashed: {text}" if category is Category.UNKNOWN else None,
        )
    for category, weight, text in _BY_CODE.get(facts.return_code or 0, ()):
        yield _Clue(category, weight, f"exit code {facts.return_code}: {text}")


_BY_SIGNAL: Mapping[int, tuple[tuple[Category, float, str], ...]] = {
    signal.SIGTERM: ((Category.KILLED_BY_USER, 0.45, "asked to end"),),
    signal.SIGINT: ((Category.KILLED_BY_USER, 0.8, "interrupted"),),
    signal.SIGHUP: ((Category.KILLED_BY_USER, 0.45, "its terminal was closed"),),
    signal.SIGSEGV: ((Category.UNKNOWN, 0.5, "segmentation fault"),),
    signal.SIGBUS: ((Category.UNKNOWN, 0.45, "bus error"),),
    signal.SIGILL: ((Category.UNKNOWN, 0.5, "illegal instruction"),),
    signal.SIGABRT: ((Category.UNKNOWN, 0.35, "aborted"),),
    signal.SIGFPE: ((Category.ASSERTION, 0.6, "floating-point exception"),),
    signal.SIGXCPU: ((Category.TIMEOUT, 0.9, "CPU time limit"),),
    signal.SIGXFSZ: ((Category.DISK_FULL, 0.85, "file size limit"),),
    signal.SIGPIPE: ((Category.UNKNOWN, 0.3, "the reader of its output had exited"),),
}
_BY_CODE: Mapping[int, tuple[tuple[Category, float, str], ...]] = {
    124: ((Category.TIMEOUT, 0.6, "as `timeout` ends"),),
    126: ((Category.PERMISSION, 0.5, "cannot be executed"),),
    127: ((Category.MISSING_FILE, 0.5, "command not found"),),
}


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole or not part else part / whole


def _memory(facts: AttemptFacts) -> str:
    assert facts.peak_memory is not None and facts.memory_request is not None
    return f"{human_bytes(facts.peak_memory)} used at most, {human_bytes(facts.memory_request)} requested"


def _time(facts: AttemptFacts) -> str:
    assert facts.wall_seconds is not None and facts.runtime_request is not None
    return f"ran {human_duration(facts.wall_seconds)}, {human_duration(int(facts.runtime_request))} requested"


def _figures(facts: AttemptFacts) -> tuple[str, ...]:
    number = signal_of(facts.return_code)
    if number is not None and number != signal.SIGXCPU:  # 152 is also the code of timeouts
        return (f"ended by {signal_name(number)}",)
    return () if facts.return_code is None else (f"exit code {facts.return_code}",)


# -- what it printed --------------------------------------------------------------------------------------------


def _of_logs(logs: Sequence[Log]) -> Iterable[_Clue]:
    """Yield the evidence in the lines. A pattern is tried only on lines that contain a needle of its symptom."""
    for log in logs:
        lines = clean(log.text)
        lowered_lines = [line.lower() for line in lines]  # lowercasing may turn one letter into two
        lowered, starts = "\n".join(lowered_lines), _starts(lowered_lines)
        clues: list[_Clue] = []
        tried: set[tuple[int, int]] = set()  # a line may contain several needles of a symptom
        for needle, numbers in _by_needle().items():
            if needle in lowered:
                found = _lines_with(needle, lowered, starts)
                for number in numbers:
                    fresh = [at for at in found if (number, at) not in tried]
                    tried.update((number, at) for at in fresh)
                    clues += _matches(log, lines, fresh, number)
        yield from _one_meaning_a_line(clues)


def _one_meaning_a_line(clues: Sequence[_Clue]) -> Iterable[_Clue]:
    """Keep the strongest meaning of each line: a library that cannot be opened is not a missing file of the user's."""
    best: dict[int, _Clue] = {}
    for clue in clues:
        if clue.at not in best or clue.weight > best[clue.at].weight:
            best[clue.at] = clue
    for clue in clues:
        is_best = clue.category == best[clue.at].category
        yield clue if is_best else clue._replace(weight=clue.weight * _ALSO)


def _lines_with(needle: str, lowered: str, starts: Sequence[int]) -> list[int]:
    """Return the indexes of the lines that contain a needle, last first."""
    found: list[int] = []
    end = len(lowered)
    while len(found) < _MOST_TRIED and (at := lowered.rfind(needle, 0, end)) >= 0:
        line = bisect_right(starts, at) - 1
        found.append(line)
        end = starts[line]
    return found


def _matches(log: Log, lines: Sequence[str], candidates: Sequence[int], number: int) -> Iterable[_Clue]:
    symptom, pattern, given = SYMPTOMS[number], _compiled(number), 0
    for at in candidates:
        found = pattern.search(lines[at])
        if found is None or _counts_none(lines[at], found):
            continue
        # of two lines with equal weight, the later one is closer to what ended the attempt
        weight = symptom.weight * _doubt(symptom, lines[at]) - 0.02 * (1 - (at + 1) / len(lines))
        where = None if log.first_line is None else log.first_line + at
        quote = LogQuote(log.name, where, lines[at].strip()[:_LONGEST_LINE])
        yield _Clue(symptom.category, max(weight, 0.01), None, quote, at, symptom.what)
        given += 1
        if given == _MOST_GIVEN:
            return


#: "0 out of memory" and "no timeouts", but not "rank 0 out of memory", where the number is a name
_NONE_BEFORE = re.compile(
    r"(?:(\w+)[ #:=-]{1,2})?(?<![\w.-])(?:0|no|zero|without|never|not)(?: \w{1,12})? {1,2}$", re.IGNORECASE
)
_NONE_AFTER = re.compile(
    r"(?:s|es)?\b['\"]?(?: (?:errors?|events?|count|failures?|kills?|jobs?|tasks?))? {0,2}[:=] {0,2}(?:0|none|no|false)(?![\w.])",
    re.IGNORECASE,
)
_NUMBERED = frozenset(
    {
        "rank",
        "process",
        "gpu",
        "device",
        "cuda",
        "worker",
        "task",
        "node",
        "thread",
        "proc",
        "executor",
        "slot",
        "pid",
        "id",
        "host",
    }
)
_BEFORE_CHARACTERS = 40


def _counts_none(line: str, found: re.Match[str]) -> bool:
    """Return whether a match is negated or counted as zero (`0 out of memory`, `no timeouts`)."""
    before = _NONE_BEFORE.search(line, max(0, found.start() - _BEFORE_CHARACTERS), found.start())
    if before is not None and (before[1] or "").lower() not in _NUMBERED:
        return True
    return _NONE_AFTER.match(line, found.end()) is not None


def _doubt(symptom: Symptom, line: str) -> float:
    """Return how much of a symptom's weight remains in a line that weakens it or is about another process."""
    if symptom.category.is_explicit:
        return 1.0
    return (_MILDLY if _MILD.search(line) else 1.0) * (_MILDLY if _OF_LAUNCHERS.search(line) else 1.0)


@cache
def _by_needle() -> dict[str, list[int]]:
    """Return the indexes of the symptoms by needle; symptoms may share one."""
    found: dict[str, list[int]] = {}
    for number, symptom in enumerate(SYMPTOMS):
        for needle in symptom.needles.split("|"):
            found.setdefault(needle, []).append(number)
    return found


@cache
def _compiled(number: int) -> re.Pattern[str]:
    return re.compile(SYMPTOMS[number].pattern, re.IGNORECASE)


def clean(text: str) -> list[str]:
    """Return the lines of a log without escape sequences and overwritten text. Lines of binary data are empty: words in them mean
    nothing."""
    lines = _ESCAPES.sub("", text[-_MOST_TEXT:]).split("\n")
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    return [_CONTROL.sub("", line) if _is_text(line) else "" for line in kept]


def _is_text(line: str) -> bool:
    """Distinguish text, perhaps in another encoding, from binary data."""
    strange = line.count("\ufffd") + len(_CONTROL.findall(line))
    return strange < _MOST_STRANGE or strange * 10 <= len(line)


def _starts(lines: Sequence[str]) -> list[int]:
    starts, at = [], 0
    for line in lines:
        starts.append(at)
        at += len(line) + 1
    return starts


def _quotes(clues: Sequence[_Clue]) -> tuple[LogQuote, ...]:
    """Return the strongest lines, in log order."""
    best: dict[tuple[str, int], _Clue] = {}
    for clue in sorted(clues, key=lambda clue: -clue.weight):
        if clue.quote is not None:
            best.setdefault((clue.quote.log, clue.at), clue)
    chosen = list(best.values())[:_MOST_LINES]
    return tuple(clue.quote for clue in sorted(chosen, key=lambda clue: clue.at) if clue.quote is not None)


def _last_line(logs: Sequence[Log]) -> str:
    for log in logs:
        for line in reversed(clean(log.text)):
            if line.strip():
                return line.strip()
    return ""
