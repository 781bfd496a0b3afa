"""The OpenAPI 3.1 document, generated from the table of requests."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter

from torc import __version__
from torc.api.registry import REQUESTS
from torc.server.authentication import BY_PASSWORD
from torc.server.problems import MEDIA_TYPE, TITLES
from torc.server.routes import PREFIX, Kind, by_path, has_versions, path_fields, status_of

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body is not JSON.",
    401: "The caller is not authenticated.",
    403: "The caller may not do this.",
    404: "There is nothing with that id or name.",
    408: "The body did not arrive in time.",
    409: "The stored state does not allow it.",
    412: "It has changed since the caller read it (`If-Match`).",
    413: "The body is larger than this request allows: see `x-largest-body`.",
    415: "The content type of the body is not JSON.",
    421: "The server does not have that name.",
    422: "The request cannot succeed as it stands.",
    429: "Too many requests.",
    503: "Something that the server needs is unavailable; nothing was changed.",
}
_ALWAYS = (401, 403, 421, 422, 429, 503)
_WITH_BODY = (400, 408, 413, 415)
_ACCESS = {
    "read": "Needs the right to read.",
    "job": "Needs the scope `job`.",
    "write": "Needs the right to write.",
    "run": "Needs the right to run.",
    "admin": "For administrators.",
}
#: requests about something other than what their path names
_NAMES_OTHERS = {"CreateWorkflow", "CreateToken", "ListAllocations", "GetUsage", "FindInterventions"}
_PROBLEM = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what happened to what"},
        "code": {
            "type": "string",
            "enum": ["internal", "invalid", "not_found", "conflict", "forbidden", "unavailable"],
        },
        "hint": {"type": "string", "description": "what to do"},
        "details": {"type": "object", "description": "for programs; `diagnostics` lists the problems in a spec"},
    },
}
_STREAM = {
    "operationId": "StreamEvents",
    "summary": "Follow the events of a workflow as server-sent events.",
    "description": "Each has the event's id: a client that reconnects with `Last-Event-ID` misses nothing. "
    "Without it and without `after`, the stream starts with new events.",
    "tags": ["events"],
    "parameters": [
        {"name": "workflow_id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}},
        {"name": "after", "in": "query", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}},
    ],
}


#: an example for each status: code, title, detail, hint
_TOLD = {
    400: ("invalid", "the body is not JSON", "send one JSON object"),
    401: ("forbidden", "this server requires authentication", "send a token: `Authorization: Bearer TOKEN`"),
    403: (
        "forbidden",
        "DeleteWorkflow needs the right to write, and this token has `read`",
        "create one with more rights",
    ),
    404: ("not_found", "there is no workflow 12", "`torc workflows list` lists all workflows"),
    408: ("invalid", "the body did not arrive within 30 s", "send it without delay"),
    409: ("conflict", "workflow 12 cannot be deleted: 1 runner works on it", "wait for the end, or stop it first"),
    412: ("conflict", "it has changed since you read it", "get it again, then decide"),
    413: ("invalid", "the body of CreateJob may have at most 1048576 bytes", "send less at once"),
    415: ("invalid", "the body is said to be text/plain", "send JSON, with the header Content-Type: application/json"),
    421: (
        "invalid",
        "this server is not called 'example.org'",
        "start it with --allowed-host NAME to accept this name",
    ),
    422: ("invalid", "`limit`: Input should be greater than or equal to 1", "this document describes each field"),
    429: ("unavailable", "you send more than 2000 requests per second", "request more at once"),
    503: ("unavailable", "the database cannot be used now: database is locked", "nothing was changed"),
}


@cache
def _examples() -> dict[str, Any]:
    """Return requests sent to a real store and its replies, by operation."""
    found: dict[str, Any] = json.loads(files("torc.server").joinpath("examples.json").read_text(encoding="utf-8"))
    return found


@cache
def text() -> str:
    return json.dumps(document(), ensure_ascii=False, indent=1)


@cache
def document() -> dict[str, Any]:
    schemas, names = _schemas()
    paths: dict[str, Any] = {}
    for path, kinds in by_path().items():
        paths[PREFIX + path] = {kind.http_method.lower(): _operation(kind, names) for kind in kinds.values()}
    paths[f"{PREFIX}/workflows/{{workflow_id}}/events/stream"] = {"get": _stream()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Torc",
            "version": __version__,
            "description": "Workflows, jobs, runners and results. Lists are paged: send `cursor` to get the next page. "
            "GET of a single resource returns an `ETag`; changes to it may send `If-Match`. `x-largest-body` is in bytes.",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "ErrorDocument": _PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a token from `torc login`, `torc tokens create` or `.torc/server.json`",
                },
                "password": {"type": "http", "scheme": "basic", "description": "for signing in, which returns a token"},
            },
            "responses": {str(status): _error(status) for status in _ERRORS},
        },
    }


@cache
def _schemas() -> tuple[dict[str, Any], dict[tuple[Any, str], Any]]:
    """Return the schemas of all requests and replies, and the reference to each."""
    inputs: list[Any] = [(kind.__name__, "validation", TypeAdapter(kind)) for kind in REQUESTS.values()]
    outputs: list[Any] = [(f"{kind.__name__}:reply", "serialization", kind.reply()) for kind in REQUESTS.values()]
    made, definitions = TypeAdapter.json_schemas([*inputs, *outputs], ref_template=_REF)
    return dict(definitions.get("$defs", {})), {(name, mode): schema for (name, mode), schema in made.items()}


def _operation(kind: Kind, names: dict[tuple[Any, str], Any]) -> dict[str, Any]:
    summary, _, rest = (kind.__doc__ or kind.__name__).strip().partition("\n")
    operation: dict[str, Any] = {
        "operationId": kind.__name__,
        "summary": summary,
        "description": f"{' '.join(rest.split())} {_ACCESS[kind.access]}".strip(),
        "tags": [kind.http_path.split("/")[1] if kind.http_path.count("/") < 3 else kind.http_path.split("/")[3]],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
            for name in path_fields(kind)
        ],
        "responses": _responses(kind, names),
    }
    properties = _own_schema(kind)["properties"]
    if kind.http_method in {"GET", "DELETE"}:
        operation["parameters"] += [_query(name, schema) for name, schema in properties.items()]
    elif properties:
        operation["requestBody"] = {
            "required": bool(_own_schema(kind).get("required")),
            "content": {"application/json": {"schema": _own_schema(kind), "example": _body_example(kind)}},
            "x-largest-body": kind.largest_body,
        }
    if kind.__name__ in BY_PASSWORD:
        operation["security"] = [{"token": []}, {"password": []}]
    if has_versions(kind):
        pattern = '^(\\*|"[0-9a-f]+"(, *"[0-9a-f]+")*)$'
        operation["parameters"].append(
            {"name": "If-Match", "in": "header", "schema": {"type": "string", "pattern": pattern}}
        )
    return operation


@cache
def _own_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of a request without its path fields."""
    # taken from the whole document: generated separately, it would name referenced types differently
    schemas, names = _schemas()
    whole = names[kind.__name__, "validation"]
    if "$ref" in whole:
        whole = schemas[whole["$ref"].removeprefix(_REF.format(model=""))]
    in_path = path_fields(kind)
    required = [name for name in whole.get("required", ()) if name not in in_path]
    found: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: schema for name, schema in whole.get("properties", {}).items() if name not in in_path},
    }
    return {**found, "required": required} if required else found


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a query field: null is expressed by omitting it."""
    found = {
        key: value
        for key, value in schema.items()
        if key not in {"anyOf", "title", "default"} or (key == "default" and value is not None)
    }
    options = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    if len(options) == 1:
        found |= options[0]
    parameter = {"name": name, "in": "query", "schema": {k: v for k, v in found.items() if k != "description"}}
    return {**parameter, "description": found["description"]} if "description" in found else parameter


def _responses(kind: Kind, names: dict[tuple[Any, str], Any]) -> dict[str, Any]:
    status = status_of(kind)
    success: dict[str, Any] = {"description": "Done."}
    if status != 204:
        schema = names[f"{kind.__name__}:reply", "serialization"]
        example = _examples()[kind.__name__]["reply"]
        success["content"] = {"application/json": {"schema": schema, "example": example}}
    errors = list(_ALWAYS)
    if "{" in kind.http_path:
        errors.append(404)
    if kind.http_method not in {"GET", "DELETE"}:
        errors += _WITH_BODY
    if kind.http_method != "GET":
        errors += [409, 412] if has_versions(kind) else [409]
    if kind.__name__ in _NAMES_OTHERS:
        errors.append(404)
    return {
        str(status): success,
        **{str(error): {"$ref": f"#/components/responses/{error}"} for error in sorted(errors)},
    }


def _body_example(kind: Kind) -> dict[str, Any]:
    asked = _examples()[kind.__name__]["request"]
    return {name: value for name, value in asked.items() if name not in path_fields(kind)}


def _stream() -> dict[str, Any]:
    errors = {str(error): {"$ref": f"#/components/responses/{error}"} for error in (*_ALWAYS, 404)}
    success = {
        "description": "Events, until the client disconnects.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return {**_STREAM, "responses": {"200": success, **errors}}


def _error(status: int) -> dict[str, Any]:
    code, detail, hint = _TOLD[status]
    example = {
        "type": f"urn:torc:problem:{code}",
        "title": TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
    }
    content = {"schema": {"$ref": "#/components/schemas/ErrorDocument"}, "example": example}
    return {"description": _ERRORS[status], "content": {MEDIA_TYPE: content}}
