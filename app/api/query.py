"""Queries that repeat a name which may come only once: FastAPI would silently take the last value."""

from typing import get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection

ONCE = "Give it only once"


def repeated(query: QueryParams, kind: type[BaseModel]) -> list[str]:
    """Names with several values in `query` whose field in `kind` is no list."""
    fields = kind.model_fields
    single = (name for name in query if name in fields and get_origin(fields[name].annotation) is not list)
    return [name for name in single if len(query.getlist(name)) > 1]


async def check_repeated(connection: HTTPConnection) -> None:
    """Raises RequestValidationError for repeated names in the query of any route. A dependency."""
    route = connection.scope["route"]
    if not isinstance(connection, Request) or not isinstance(route, APIRoute):
        return
    kinds = (field.field_info.annotation for field in route.dependant.query_params)
    queries = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    names = [name for kind in queries for name in repeated(connection.query_params, kind)]
    if names:
        raise RequestValidationError([{"type": "repeated", "loc": ("query", name), "msg": ONCE} for name in names])
