"""Refuses parameters that an address does not have, and names the one that was probably meant."""

from collections.abc import Iterator
from difflib import get_close_matches

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from coordinator.http.errors import RequestInvalidError
from shared.protocol import clean_text

MAX_NAMED = 100
"""Characters of an unknown name that an answer repeats."""

_MEANT = {
    "after": "since", "agent": "worker", "asc": "ascending", "author": "volunteer", "before": "until",
    "class": "hardware_class", "count": "limit", "device": "hardware_class", "from": "since", "gpu": "hardware_class",
    "hash": "sha", "max_effect": "effect_below", "max_metric": "metric_below", "min_effect": "effect_above",
    "min_metric": "metric_above", "offset": "cursor", "order": "sort", "order_by": "sort", "page": "cursor",
    "page_size": "limit", "parameter": "axis", "per_page": "limit", "query": "q", "reverse": "ascending",
    "search": "q", "size": "limit", "sort_by": "sort", "status": "outcome", "to": "until", "top": "limit",
    "topic": "axis", "user": "volunteer",
}  # fmt: skip
"""Names that other APIs have for parameters of ours."""

_known: dict[str, frozenset[str]] = {}


def _list_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from kind.model_fields
        else:
            yield field.alias
    for part in dependant.dependencies:
        yield from _list_names(part)


async def refuse_unknown(request: Request) -> None:
    """Raise RequestInvalidError for a parameter that the address does not have."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    if route.unique_id not in _known:
        _known[route.unique_id] = frozenset(_list_names(route.dependant))
    known = _known[route.unique_id]
    mistakes = [
        {"where": f"query.{clean_text(name)[:MAX_NAMED]}", "what": _explain(name, known)}
        for name in dict.fromkeys(request.query_params)
        if name not in known
    ]
    if mistakes:
        detail = "; ".join(f"{one['where']}: {one['what']}" for one in mistakes[:3])
        raise RequestInvalidError(detail, errors=mistakes[:20])


def _explain(name: str, known: frozenset[str]) -> str:
    meant = _MEANT.get(name.lower().replace("-", "_"))
    if meant not in known:
        meant = next(iter(get_close_matches(name.lower().replace("-", "_"), sorted(known), 1)), None)
    if meant is not None:
        return f"is not known here. Did you mean {meant}?"
    return (
        f"is not known here. Known are {', '.join(sorted(known))}." if known else "is not known: there are none here."
    )


KNOWN_ONLY = [Depends(refuse_unknown)]
"""For routers of the API."""
