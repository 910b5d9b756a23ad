"""Which requests are for some routes, by the router's own rule: a guard with another lets past what it does not know."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import Scope


def is_for(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    """Whether one of `routes` will answer."""
    return any(route.matches(scope)[0] is Match.FULL for route in routes)
