"""Visitors of pages: the cookies of browsers, dependencies that ask for an account, and the guards of forms.

A browser has one cookie with a secret. Before a sign-in the secret stands for nobody, and only guards forms; a sign-in
replaces it by that of a session (`accounts.sessions`). Tokens of forms and messages that wait for the next page are
signed with the secret, so the coordinator needs no key of its own.
"""

import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated
from urllib.parse import SplitResult, quote, urlsplit

from anyio import to_thread
from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from itsdangerous import BadData, URLSafeSerializer
from starlette.datastructures import FormData, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.accounts.permissions import STAFF, Caller, Permission, check
from coordinator.accounts.sessions import LONGEST_LIFE, Visit, find_visit
from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.http.errors import SwarmError
from coordinator.http.prefix import read_path, root
from coordinator.settings import CoordinatorSettings
from coordinator.web.navigation import count_waiting
from shared.moderation import ActionSource
from shared.protocol import API_PREFIX
from shared.workers import Role

COOKIE, MESSAGES_COOKIE = "swarm_session", "swarm_messages"
FORM_FIELD, FORM_HEADER = "csrf", "X-CSRF-Token"
SECRET_BYTES, FORM_BYTES = 32, 12
MAX_MESSAGE = 1_000
"""Characters of a message that waits in a cookie."""

MAX_NEXT = 1_000
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")
TYPED_FIELDS = frozenset(
    ("reason", "text", "theme", "name", "title", "notice", "members", "label", "cited_as", "new_name")
)
"""Fields of forms that people write into. An answer that refuses a form shows them, so that no words are lost."""

WITHOUT_VISITS = ("/static/", f"{API_PREFIX}/", "/git/")
"""Addresses whose answers are the same for everybody who may read them."""

_current: ContextVar[Request | None] = ContextVar("request of a page", default=None)


class SignInNeededError(SwarmError, status=401, title="Sign in first"):
    """Pages lead browsers to the sign-in."""


class FormInvalidError(SwarmError, status=403, title="The form is not valid any more"):
    """The form does not belong to the browser's session: it is of another session or of another site."""


def current_request() -> Request | None:
    """The request that is being answered; None outside of one."""
    return _current.get()


class Visits:
    """Finds whose each page's request is, and sets the cookies of its answer. Such answers are kept by no cache."""

    def __init__(self, app: ASGIApp, *, is_public: bool) -> None:
        self._app = app
        self._passed_on = WITHOUT_VISITS if is_public else WITHOUT_VISITS[:1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or read_path(scope).startswith(self._passed_on):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        _current.set(request)
        request.state.cookies = Response()
        request.state.is_personal = False
        if not read_path(scope).startswith(WITHOUT_VISITS):
            await load_visit(request)

        async def send_with_cookies(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in request.state.cookies.raw_headers:
                    if name == b"set-cookie":
                        headers.append("Set-Cookie", value.decode("latin-1"))
                if headers.get("content-type", "").startswith("text/html") or "location" in headers:
                    headers.add_vary_header("Cookie")
                if request.state.is_personal:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_cookies)


async def load_visit(request: Request) -> Visit | None:
    """The visit of a request's cookie, looked up once."""
    if not hasattr(request.state, "visit"):
        secret = _read_secret(request)
        database = request.app.state.database
        request.state.visit, request.state.waiting = None, 0
        if secret:
            request.state.visit, request.state.waiting = await to_thread.run_sync(_look_up, database, secret)
        request.state.is_personal = request.state.visit is not None
    visit: Visit | None = request.state.visit
    return visit


def look_up_visit(request: Request) -> Visit | None:
    """The visit of a request's cookie, looked up now."""
    secret = _read_secret(request)
    return find_visit(request.app.state.database, secret) if secret else None


def _look_up(database: Database, secret: str) -> tuple[Visit | None, int]:
    """The visit of a cookie's secret, and what waits on the desk for those who look after it."""
    visit = find_visit(database, secret)
    if visit is None or visit.account.role not in STAFF:
        return visit, 0
    with database.read() as session:
        return visit, count_waiting(session)


def find_visitor(request: Request) -> Caller | None:
    """The account that is signed in; None for a stranger."""
    visit: Visit | None = getattr(request.state, "visit", None)
    return visit.account if visit else None


async def _require_visitor(request: Request) -> Caller:
    visitor = find_visitor(request)
    if visitor is None:
        raise SignInNeededError("This page is for people with an account. Sign in, or join.")
    return visitor


def allowing(permission: Permission) -> Callable[..., object]:
    """A dependency that returns the account that is signed in, if it has the permission."""

    async def require(visitor: Annotated[Caller, Depends(_require_visitor)]) -> Caller:
        check(visitor, permission)
        return visitor

    return require


async def _find_visitor(request: Request) -> Caller | None:
    return find_visitor(request)


Visitor = Annotated[Caller | None, Depends(_find_visitor)]
"""The account that is signed in, or None."""

SignedIn = Annotated[Caller, Depends(_require_visitor)]
"""The account that is signed in, whatever its state; strangers are led to the sign-in."""

Contributor = Annotated[Caller, Depends(allowing(Permission.WORK))]
"""The account that is signed in, if it may write."""

Moderator = Annotated[Caller, Depends(allowing(Permission.LOOK))]
"""The moderator or maintainer who is signed in."""

Maintainer = Annotated[Caller, Depends(allowing(Permission.ADMINISTER))]
"""The maintainer who is signed in."""


def act_as(visitor: Caller) -> Actor:
    """The actor of an action that was asked for on a page."""
    return Actor(visitor.name, visitor.id, Role(visitor.role), ActionSource.PAGE)


def read_next(given: str | None) -> str:
    """Where to go after a sign-in: an address on this coordinator, below its prefix; its front page for any other."""
    is_local = given is not None and len(given) <= MAX_NEXT and _LOCAL.fullmatch(given)
    return given if given and is_local else "/"


def redirect(request: Request, path: str, message: str = "", kind: str = "done") -> RedirectResponse:
    """Lead a browser to a page after a form, where it shows the message. `kind` is `done` or `problem`."""
    if message:
        signed = _signer(_get_secret(request), "messages").dumps([kind, message[:MAX_MESSAGE]])
        set_cookie(request, MESSAGES_COOKIE, signed)
    return RedirectResponse(root() + path, 303)


def take_message(request: Request) -> tuple[str, str] | None:
    """The message that waits for this page, as (kind, text). It is shown once."""
    found, secret = request.cookies.get(_cookie_name(request, MESSAGES_COOKIE)), _read_secret(request)
    if not found or not secret:
        return None
    request.state.is_personal = True
    set_cookie(request, MESSAGES_COOKIE, None)
    try:
        kind, text = _signer(secret, "messages").loads(found)
    except (BadData, ValueError):
        return None
    return kind, text


def sign_in_browser(request: Request, secret: str) -> None:
    """Give the browser the secret of its new session, in place of any that it had."""
    _set_secret(request, secret, find_visit(request.app.state.database, secret))


def sign_out_browser(request: Request) -> None:
    """Give the browser a secret that stands for nobody."""
    _set_secret(request, secrets.token_urlsafe(SECRET_BYTES), None)


def _set_secret(request: Request, secret: str, visit: Visit | None) -> None:
    request.state.secret, request.state.visit, request.state.is_personal = secret, visit, True
    set_cookie(request, COOKIE, secret)


def make_form_token(request: Request) -> str:
    """The token of this visit's forms. Each is another one, since compressed pages tell of what they repeat."""
    request.state.is_personal = True
    return draw_form_token(_get_secret(request))


def draw_form_token(secret: str) -> str:
    """A token for the forms of the browser that has this secret."""
    return _signer(secret, "form").dumps(secrets.token_urlsafe(FORM_BYTES))


async def check_form(request: Request) -> None:
    """Refuse a form that no page of this visit showed. Raises FormInvalidError. The visit is looked up once more, since
    it may have ended while the form arrived."""
    if not _is_same_site(request):
        raise FormInvalidError("It was sent from another site.")
    form = await request.form()
    request.state.form = form
    del request.state.visit
    await load_visit(request)
    given = request.headers.get(FORM_HEADER) or form.get(FORM_FIELD)
    secret = _read_secret(request)
    if not secret or not isinstance(given, str) or not _is_form_token(given, secret):
        raise FormInvalidError("You signed in or out since the page was loaded. Load it again, and send the form anew.")


def list_typed(request: Request) -> list[tuple[str, str]]:
    """The texts that a person wrote into the form of a request that `check_form` read, by field; no secrets."""
    form: FormData | None = getattr(request.state, "form", None)
    fields = form.multi_items() if form else []
    return [(name, text) for name, text in fields if name in TYPED_FIELDS and isinstance(text, str) and text.strip()]


CsrfChecked = Depends(check_form)
"""Every route that takes a form has `dependencies=[CsrfChecked]`."""


def _is_form_token(given: str, secret: str) -> bool:
    try:
        _signer(secret, "form").loads(given)
    except BadData:
        return False
    return True


def _is_same_site(request: Request) -> bool:
    """Whether the browser says that a page of this coordinator sent the form; older ones do not say."""
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched in ("same-origin", "none")
    origin = request.headers.get("origin")
    settings: CoordinatorSettings = request.app.state.settings
    hosts = {request.headers.get("host"), urlsplit(settings.public_url).netloc}
    return origin is None or (_split(origin).netloc or None) in hosts


def _split(address: str) -> SplitResult:
    """The parts of an address that a header states; all empty where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _signer(secret: str, use: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt=use)


def _read_secret(request: Request) -> str | None:
    """The secret that the browser sent."""
    return request.cookies.get(_cookie_name(request, COOKIE)) or None


def _get_secret(request: Request) -> str:
    """The secret that the browser has after this answer; it gets one if it has none."""
    known: str | None = getattr(request.state, "secret", None) or _read_secret(request)
    if known is None:
        sign_out_browser(request)
        known = str(request.state.secret)
    return known


def _is_secure(request: Request) -> bool:
    settings: CoordinatorSettings = request.app.state.settings
    return request.url.scheme == "https" or settings.public_url.startswith("https:")


def _cookie_name(request: Request, name: str) -> str:
    """With TLS, a name that no other host of the domain can set a cookie by."""
    if not _is_secure(request):
        return name
    return f"__Secure-{name}" if root() else f"__Host-{name}"


def set_cookie(request: Request, name: str, value: str | None) -> None:
    """Set a cookie with the answer; None deletes it."""
    cookies: Response = request.state.cookies
    age = 0 if value is None else int(LONGEST_LIFE.total_seconds())
    cookies.set_cookie(
        _cookie_name(request, name), value or "", max_age=age, path=root() or "/", secure=_is_secure(request),
        httponly=True, samesite="lax",
    )  # fmt: skip


def sign_in_address(request: Request) -> str:
    """The address of the sign-in, which leads back to this page, or to the one whose form was sent."""
    path, query = read_path(request.scope), request.url.query
    back = path + (f"?{query}" if query else "")
    is_page = request.method == "GET" and path not in ("/", "/sign-in", "/join")
    if request.method == "POST":
        back = form_address(request)
        is_page = back != "/"
    return f"{root()}/sign-in" + (f"?next={quote(back, safe='/')}" if is_page else "")


def form_address(request: Request) -> str:
    """The address, below the prefix, of the page whose form was sent; the front page's where the browser says none."""
    came = _split(request.headers.get("referer", ""))
    if came.netloc != request.headers.get("host") or not came.path.startswith(f"{root()}/"):
        return "/"
    return read_next(came.path.removeprefix(root()) + (f"?{came.query}" if came.query else ""))
