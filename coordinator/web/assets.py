"""Static files and their addresses. An address that names its content's version may be kept for a year."""

import gzip
from functools import cache
from hashlib import sha256
from importlib.metadata import distribution, version
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC_FOLDER = Path(__file__).parent / "static"
KEEP = "public, max-age=31536000, immutable"
PLOTLY_PATH = f"/static/plotly-{version('plotly')}.min.js"

router = APIRouter()


class CachedStaticFiles(StaticFiles):
    """Static files: with `?v=` they may be kept, without it (one module importing another) they are asked about."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = scope.get("query_string", b"").startswith(b"v=")
        response.headers["Cache-Control"] = KEEP if versioned else "no-cache"
        return response


@router.get(PLOTLY_PATH)
def read_plotly(request: Request) -> Response:
    """plotly.js as the Python package carries it: 4.8 MB, 1.5 MB compressed."""
    headers = {"Cache-Control": KEEP, "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(_plotly_file().read_bytes(), media_type="text/javascript", headers=headers)
    return Response(_compressed_plotly(), media_type="text/javascript", headers=headers | {"Content-Encoding": "gzip"})


def static_url(name: str) -> str:
    """The address of a file in `static/`, with the version of its content."""
    return f"/static/{name}?v={_version(name)}"


@cache
def _version(name: str) -> str:
    return sha256((STATIC_FOLDER / name).read_bytes()).hexdigest()[:12]


@cache
def _compressed_plotly() -> bytes:
    return gzip.compress(_plotly_file().read_bytes(), mtime=0)


def _plotly_file() -> Path:
    """Found without importing plotly, which takes longer than all the rest of the coordinator."""
    return Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
