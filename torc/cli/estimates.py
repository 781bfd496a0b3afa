"""`torc plan --learn`: what a new workflow should ask for, by what earlier jobs like its own have used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torc.cli import rendering
from torc.cli.connection import torc
from torc.cli.session import SESSION
from torc.cli.spec_files import read_spec
from torc.errors import Conflict, Invalid, NotFound
from torc.planning.history import LearnedRequest, shape_of, together
from torc.units import human_bytes, human_duration

#: of a sweep, so many commands are asked about
_MOST_OF_A_TEMPLATE = 200
_AT_ONCE = 10_000


def learn(spec: str, output: Path | None, margin: float, *, force: bool) -> None:
    """Show what the job templates of a spec should ask for and, where it is wanted, write a spec that does."""
    from torc.cli.commands.specs import compiled
    from torc.files import write_whole
    from torc.spec.apply_estimates import adopt
    from torc.spec.compiler import parse_spec
    from torc.spec.formats import format_to_write
    from torc.spec.writer import write_spec

    form = None if output is None else format_to_write(output)
    if output is not None and output.exists() and not force:
        raise Conflict(f"{output} already exists", hint="use --force to overwrite it")
    if spec == "-":
        raise Invalid("--learn reads the spec twice", hint="name a file")
    plan = compiled(spec)[0]
    learnt, num_attempts = _ask(plan, margin)
    text, source, name = read_spec(spec)
    parsed, _ = parse_spec(text, format=source, name=name)
    assert parsed is not None, "it was compiled before"
    made, adopted = adopt(parsed, learnt)
    rows = _rows(plan, adopted)
    if SESSION.json:
        rendering.show_json(
            {
                "num_attempts": num_attempts,
                "classes": rows,
                "unknown": [parsed.jobs[at].name for at, _, _ in plan.templates if at not in learnt],
            }
        )
    else:
        _print(parsed, plan, rows, learnt, num_attempts)
    if output is not None:
        if not adopted:
            raise NotFound("nothing was learnt that could be written", hint="run something like it first")
        write_whole(output, write_spec(made, str(form)).encode())
        rendering.note(f"wrote {output}")


def _ask(plan: Any, margin: float) -> tuple[dict[int, LearnedRequest], int]:
    """Ask what is known of the commands of each template; a template is known when all that were asked about are."""
    from torc.api.estimates import SuggestResources

    asked = {at: _commands(plan.jobs, first, count) for at, first, count in plan.templates}
    distinct = list(dict.fromkeys(command for commands in asked.values() for command in commands))
    known: dict[str, LearnedRequest] = {}
    num_attempts = 0
    with torc(create=False) as opened:
        for start in range(0, len(distinct), _AT_ONCE):
            found = opened.send(SuggestResources(commands=distinct[start : start + _AT_ONCE], margin=margin))
            num_attempts = found.num_attempts
            for item in found.suggestions:
                fields = item.model_dump(include=set(LearnedRequest._fields))
                known[item.command] = LearnedRequest(**fields)
    learnt = {
        at: together([known[command] for command in commands])
        for at, commands in asked.items()
        if all(command in known for command in commands)
    }
    return learnt, num_attempts


def _commands(jobs: Any, first: int, count: int) -> list[str]:
    """Return commands of a template, one of each shape, from all over the sweep."""
    step = max(1, count // _MOST_OF_A_TEMPLATE)
    by_shape = {shape_of(jobs[at].command): jobs[at].command for at in range(first, first + count, step)}
    return list(by_shape.values())


def _rows(plan: Any, adopted: Any) -> list[dict[str, Any]]:
    counts: Mapping[int, tuple[int, int]] = {at: (first, count) for at, first, count in plan.templates}
    rows = []
    for item in adopted:
        old = plan.requirements[plan.jobs[counts[item.templates[0]][0]].requirement].request
        rows.append(
            {
                "class": item.name,
                "old_class": item.old_name,
                "num_jobs": sum(counts[at][1] for at in item.templates),
                "memory_bytes": old.memory_bytes,
                "new_memory_bytes": item.learnt.memory_bytes,
                "runtime_seconds": old.runtime_seconds,
                "new_runtime_seconds": item.learnt.runtime_seconds,
                "num_samples": item.learnt.num_samples,
                "matched": item.learnt.matched,
                "most_memory_bytes": item.learnt.most_memory_bytes,
                "longest_seconds": item.learnt.longest_seconds,
            }
        )
    return rows


def _print(
    parsed: Any, plan: Any, rows: list[dict[str, Any]], learnt: Mapping[int, LearnedRequest], num_attempts: int
) -> None:
    print(f"{rendering.bold(plan.name)}: learnt from the {num_attempts:,} latest attempts that completed here")
    if rows:
        rendering.table(
            ["class", "jobs", "memory", "time", "samples", "most used", "longest", "alike by"],
            [
                [
                    row["class"],
                    f"{row['num_jobs']:,}",
                    f"{human_bytes(row['memory_bytes'])} -> {human_bytes(row['new_memory_bytes'])}",
                    f"{human_duration(row['runtime_seconds'])} -> {human_duration(row['new_runtime_seconds'])}",
                    f"{row['num_samples']:,}",
                    human_bytes(row["most_memory_bytes"]),
                    human_duration(max(1, round(row["longest_seconds"]))),
                    row["matched"],
                ]
                for row in rows
            ],
        )
    unknown = [parsed.jobs[at].name for at, _, _ in plan.templates if at not in learnt]
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        rendering.note(
            f"too little is known of {shown} (fewer than 3 attempts of jobs like it): what it asks for stays"
        )
