"""The live feed over HTTP, as server-sent events."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from coordinator.events.feed import Feed
from coordinator.http.addresses import ClientAddress, hash_address
from coordinator.http.parameters import KNOWN_ONLY
from shared.protocol import API_PREFIX

router = APIRouter(prefix=API_PREFIX, tags=["activity"], dependencies=KNOWN_ONLY)

MAX_ID = 2**63 - 1


async def open_feed(request: Request, address: ClientAddress) -> AsyncIterator[Feed]:
    """The replica's feed; asked for as a dependency, so that a closed feed is a 503 and not a broken stream. Its reader
    has a place until the stream ends."""
    feed = request.app.state.feed
    assert isinstance(feed, Feed)
    feed.check_open()
    with feed.hold_place(hash_address(address) or "", request.app.state.settings.listeners_per_address):
        yield feed


@router.get("/events", response_class=EventSourceResponse)
async def stream_events(
    feed: Annotated[Feed, Depends(open_feed)],
    since: Annotated[
        int | None, Query(ge=0, le=MAX_ID, description="the last id you know; default: only what happens from now on")
    ] = None,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=MAX_ID, description="sent by browsers that reconnect; goes before `since`")
    ] = None,
) -> AsyncIterable[ServerSentEvent]:
    """Stream events as they happen. An event's name is its kind, its `id` the cursor for `since`."""
    async for event in feed.listen(since if last_event_id is None else last_event_id):
        yield ServerSentEvent(id=str(event.id), event=event.kind, data=event)
