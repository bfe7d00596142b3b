"""Open tabs of a project's page, as browsers keep them: the page, its stream of changes, and a reload now and then.

python -m tests.bench.load_tabs ADDRESS PROJECT TABS       until it is terminated; it prints a line when all are open
"""

import asyncio
import re
import sys
from html import unescape
from random import Random

import httpx

RELOAD_SECONDS = (20.0, 40.0)
PATIENCE_SECONDS = 120.0
_STATE = re.compile(r'data-state="([^"]*)"')


async def keep_open(http: httpx.AsyncClient, project: str, random: Random, opened: asyncio.Semaphore) -> None:
    """One tab: the page, then what changes, until it is loaded anew."""
    while True:
        page = (await http.get(f"/projects/{project}")).raise_for_status()
        state = _STATE.search(page.text)
        assert state is not None, "the page has no state to go on from"
        address = f"/projects/{project}/live"
        async with http.stream("GET", address, params={"state": unescape(state[1])}) as stream:
            stream.raise_for_status()
            opened.release()
            try:
                async with asyncio.timeout(random.uniform(*RELOAD_SECONDS)):
                    async for _ in stream.aiter_raw():
                        pass
            except TimeoutError:
                continue


async def run(url: str, project: str, tabs: int) -> None:
    opened, limits = asyncio.Semaphore(0), httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, limits=limits) as http,
        asyncio.TaskGroup() as all_,
    ):
        for number in range(tabs):
            all_.create_task(keep_open(http, project, Random(number), opened))
        for _ in range(tabs):
            await opened.acquire()
        print("open", flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
