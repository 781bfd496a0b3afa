"""`torc failure-handlers`: what to do about failed attempts."""

from __future__ import annotations

from torc.api import data as api
from torc.cli.fields_commands import FieldsRequests, commands_for

failure_handlers = commands_for(
    "What to do about failed attempts.",
    "failure handler",
    ("retry", '{"rules": [{"exit_codes": [75]}]}', '{"rules": [{"match_all_exit_codes": true}]}'),
    FieldsRequests(
        list=lambda workflow, limit, cursor: api.ListFailureHandlers(workflow_id=workflow, limit=limit, cursor=cursor),
        get=lambda number: api.GetFailureHandler(failure_handler_id=number),
        create=lambda workflow, name, fields: api.CreateFailureHandler(workflow_id=workflow, name=name, fields=fields),
        update=lambda number, fields: api.UpdateFailureHandler(failure_handler_id=number, fields=fields),
        delete=lambda number: api.DeleteFailureHandler(failure_handler_id=number),
    ),
)
