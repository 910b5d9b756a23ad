"""The OpenAPI document, with the errors as they really are: problem+json instead of FastAPI's own."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.schemas import Problem

PROBLEM: dict[str, Any] = {
    "description": "problem+json (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
"""What every error answers."""

UPLOAD_PROBLEMS: dict[int | str, dict[str, Any]] = dict.fromkeys(
    (400, 401, 403, 404, 408, 411, 413, 415, 422, 429, 503, 504, 507), PROBLEM
)
"""What can go wrong where something is uploaded."""

UPLOAD_BODY: dict[str, Any] = {
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
    }
}
"""A route with an upload reads its body itself: FastAPI's UploadFile would consume a raw one."""


def install(app: FastAPI) -> None:
    """Makes `app` describe itself this way at /openapi.json and /docs."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # https://fastapi.tiangolo.com/how-to/extending-openapi/


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            _replace_validation_error(operation["responses"])
    return document


def _replace_validation_error(responses: dict[str, Any]) -> None:
    """FastAPI documents 422 for a bad query; here that is 400, and 422 is a file that does not decode."""
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
        responses["400"] = PROBLEM
