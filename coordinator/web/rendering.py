"""Rendering templates: what every template may use, and nothing that asks the database."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coordinator.web import assets, formatting, untrusted


def render(
    template: str, status_code: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """A page. `template` is its path below `templates/`; pages are asked about again each time, never kept."""
    html = _environment.get_template(template).render(context)
    return HTMLResponse(html, status_code=status_code, headers={"Cache-Control": "no-cache", **(headers or {})})


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": formatting.format_count,
        "seconds": formatting.format_seconds,
        "markdown": untrusted.render_markdown,
        "diff": untrusted.render_diff,
        "marked": untrusted.render_marked,
        "utc": _format_utc,
        "words": lambda value: str(value).replace("_", " "),
    }
    environment.globals |= {
        "static_url": assets.static_url,
        "plotly_url": assets.PLOTLY_PATH,
        "measure": formatting.format_measure,
        "effect": formatting.format_effect,
    }
    return environment


def _format_utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


_environment = _make_environment()
