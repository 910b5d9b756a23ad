"""The OpenAPI document, with what FastAPI cannot know: errors as they really are, keys, headers, events."""

from collections.abc import Collection, Sequence
from types import UnionType
from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field, JsonValue, TypeAdapter

from app.api.events import FORMATS, ProblemEvent, Waiting
from app.api.formats import JSON, MEDIA_TYPES
from app.api.preference import PARTIAL_HEADER
from app.api.schemas import Problem

SCHEMA_REFERENCE = "#/components/schemas/{model}"


def header(description: str, example: JsonValue, kind: str = "string") -> dict[str, Any]:
    """What the document says of one header, which is not always there."""
    return {"description": description, "schema": {"type": kind}, "example": example}


def request_header(name: str, description: str, example: str) -> dict[str, Any]:
    """What the document says of one header that a request may have."""
    return {"name": name, "in": "header", "required": False, **header(description, example)}


PROBLEM: dict[str, Any] = {
    "description": "problem+json (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
"""What every error answers."""

OVERLOADED = {**PROBLEM, "headers": {"Retry-After": header("Seconds after which to come back.", 1, "integer")}}

UPLOAD_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **dict.fromkeys((400, 404, 408, 411, 413, 415, 422, 500, 503, 504, 507), PROBLEM),
    429: OVERLOADED,
}
"""What can go wrong where something is uploaded."""

KEY_PROBLEMS: dict[str, dict[str, Any]] = {"401": PROBLEM, "403": PROBLEM, "429": OVERLOADED}
"""What can go wrong where a key is needed."""

KEYS: dict[str, Any] = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
"""How a key is sent, as `app.api.access` takes it."""

UPLOAD: dict[str, Any] = {
    "parameters": [
        request_header("Prefer", "`wait=SECONDS` (RFC 7240): stop then, and answer what is known.", "wait=5")
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
"""A route with an upload reads its body itself: FastAPI's UploadFile would consume a raw one."""

_HEADERS = {
    "Server-Timing": header("What `timing` says, in milliseconds; not with events.", "queue;dur=0.1, total;dur=24.0"),
    "Preference-Applied": header("Present where the service complied with `Prefer: wait=SECONDS`.", "wait=5"),
    PARTIAL_HEADER: header("Present where time was up before all was known; not with events.", "true"),
}
_FILE_HEADERS = {
    "X-Model": header("What `model` says; not with events.", "forecast@3"),
    "X-Model-License": header("Terms of the data it was trained on; not with events.", "CC-BY-4.0"),
}
"""Of `app.api.formats.respond`."""


def described(
    own_events: UnionType | type[BaseModel], offered: Sequence[str] = (), what: str = "", example: str = ""
) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route for OpenAPI: JSON comes from its response model, the others are files, or events.

    `own_events`: beside those of every route. `example`: of CSV.
    """
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    text: dict[str, Any] = {"schema": {"type": "string"}, "example": example}
    files = {MEDIA_TYPES[name]: text if name == "csv" else binary for name in offered if name != JSON}
    event: Any = Annotated[own_events | Waiting | ProblemEvent, Field(discriminator="type")]
    schema = TypeAdapter(event).json_schema(mode="serialization", ref_template=SCHEMA_REFERENCE)
    schema["description"] = "Each line, or the data of each server-sent event; `result` or `problem` is the last."
    content = files | {kind: {"schema": schema} for kind in FORMATS}
    headers = _HEADERS | (_FILE_HEADERS if offered else {})
    return {200: {"description": what, "content": content, "headers": headers}}


def install(app: FastAPI, keyless: Collection[str]) -> None:
    """Makes `app` describe itself this way at /openapi.json and /docs. `keyless`: paths that need no API key."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, keyless)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # https://fastapi.tiangolo.com/how-to/extending-openapi/


def _describe(app: FastAPI, keyless: Collection[str]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    components, paths = document["components"], document["paths"]
    components["securitySchemes"] = KEYS
    schemas = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem = Problem.model_json_schema(ref_template=SCHEMA_REFERENCE)
    schemas |= problem.pop("$defs") | {"Problem": problem}
    for path, operations in paths.items():
        for operation in operations.values():
            responses = operation["responses"]
            _replace_validation_error(responses)
            for content in responses["200"]["content"].values():
                schemas |= content.get("schema", {}).pop("$defs", {})  # of events, which FastAPI does not see
            if path not in keyless:
                operation["security"] = [{}, *({scheme: []} for scheme in KEYS)]  # {}: keys may be off
                operation["responses"] = KEY_PROBLEMS | responses
    for schema in schemas.values():
        for name in schema.get("required", ()) if "example" in schema else ():
            schema["example"].setdefault(name, None)  # FastAPI leaves out what is null
    return document


def _replace_validation_error(responses: dict[str, Any]) -> None:
    """FastAPI documents 422 for a bad query; here that is 400, and 422 is a file that does not decode."""
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
        responses["400"] = PROBLEM
