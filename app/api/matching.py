"""Whether a request is for one of some routes, by the rule of the router: a guard with another lets some past it."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import Scope


def is_for(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    """Whether one of `routes` will answer."""
    return any(route.matches(scope)[0] is Match.FULL for route in routes)
