"""Parameters of the API's addresses: moments, and the refusal of what an address does not have or has once.

Also of bodies that are not JSON, and names that stand twice in them.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, Field

from coordinator.http.errors import RequestInvalidError
from shared.protocol import Number, Timestamp, clean_text

TWICE = "is given more than once, and has one value"
MAX_NAMED = 100
"""Characters of an unknown name that an answer repeats."""

_MEANT = {
    "after": "since", "agent": "worker", "asc": "ascending", "author": "volunteer", "before": "until",
    "class": "hardware_class", "count": "limit", "device": "hardware_class", "from": "since", "gpu": "hardware_class",
    "hash": "sha", "max_effect": "effect_below", "max_metric": "metric_below", "min_effect": "effect_above",
    "min_metric": "metric_above", "offset": "cursor", "order": "sort", "order_by": "sort", "page": "cursor",
    "page_size": "limit", "parameter": "axis", "per_page": "limit", "q": "text", "query": "q", "reverse": "ascending",
    "search": "q", "size": "limit", "sort_by": "sort", "status": "outcome", "to": "until", "top": "limit",
    "topic": "axis", "user": "volunteer",
}  # fmt: skip
"""Names that other APIs have for parameters of ours."""

_JSON = re.compile(r"application/([^/]+\+)?json", re.IGNORECASE)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _read_moment(given: Any) -> Any:
    """A day as its first moment in UTC."""
    if isinstance(given, str) and _DAY.fullmatch(given):
        return f"{given}T00:00:00Z"
    return given


Moment = Annotated[Timestamp, BeforeValidator(_read_moment)]
"""A moment as a parameter: a time with its zone, or a day."""

Quantity = Annotated[Number, Field(strict=False)]
"""A number as a parameter, which is a text."""


def is_within(moment: datetime | None, since: datetime | None, until: datetime | None) -> bool:
    """Whether a moment is in a range; one that is not known is in none."""
    if moment is None:
        return since is None and until is None
    return (since is None or since <= moment) and (until is None or moment < until)


_known: dict[str, dict[str, bool]] = {}
"""By address the names of its parameters, and whether each may be repeated."""


def _list_names(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((name, _is_list(of.annotation)) for name, of in kind.model_fields.items())
        else:
            yield field.alias, _is_list(kind)
    for part in dependant.dependencies:
        yield from _list_names(part)


def _is_list(kind: Any) -> bool:
    return any(get_origin(one) in (list, Sequence) for one in (kind, *get_args(kind)))


async def refuse_unknown(request: Request) -> None:
    """Raise RequestInvalidError for a parameter that the address does not have, or that stands there twice.

    Likewise for a body of another type, or with a name twice in a table: JSON's readers keep either value.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    if route.body_field is not None and (body := await request.body()):
        _check_body(request.headers.get("content-type", ""), body)
    if not request.query_params:
        return
    if route.unique_id not in _known:
        _known[route.unique_id] = dict(_list_names(route.dependant))
    known, given = _known[route.unique_id], request.query_params
    mistakes = [
        {"where": f"query.{clean_text(name)[:MAX_NAMED]}", "what": TWICE if name in known else _explain(name, known)}
        for name in dict.fromkeys(given)
        if name not in known or (len(given.getlist(name)) > 1 and not known[name])
    ]
    if mistakes:
        detail = "; ".join(f"{one['where']}: {one['what']}" for one in mistakes[:3])
        raise RequestInvalidError(detail, errors=mistakes[:20])


def _check_body(content_type: str, body: bytes) -> None:
    if not _JSON.fullmatch(content_type.partition(";")[0].strip()):
        mistake = {"where": "header.Content-Type", "what": "must be application/json"}
        raise RequestInvalidError("header.Content-Type: must be application/json", errors=[mistake])
    json.loads(body, object_pairs_hook=_refuse_twice)


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        where = f"body.{clean_text(twice)[:MAX_NAMED]}"
        raise RequestInvalidError(f"{where}: {TWICE}", errors=[{"where": where, "what": TWICE}])


def _explain(name: str, known: Collection[str]) -> str:
    meant = _MEANT.get(name.lower().replace("-", "_"))
    return f"is not known here. {f'Did you mean {meant}?' if meant in known else suggest(name, sorted(known))}"


def suggest(name: str, known: Sequence[str]) -> str:
    """The known name that is most like one that is not, or all of them."""
    like = get_close_matches(name.lower().replace("-", "_"), known, 1)
    return f"Did you mean {like[0]}?" if like else f"Known are {', '.join(known) or 'none'}."


KNOWN_ONLY = [Depends(refuse_unknown)]
"""For routers of the API."""
