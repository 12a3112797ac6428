"""The page's own files: a style, a script, an icon. Nothing comes from anywhere else."""

from pathlib import Path
from typing import Final

from aiohttp import web

FOLDER: Final = Path(__file__).with_name("static")
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def asset_routes() -> list[web.AbstractRouteDef]:
    """Each file under its name, read once."""
    return [_route(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES]


def _route(path: Path) -> web.RouteDef:
    body = path.read_bytes()

    async def serve(_: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=body, content_type=TYPES[path.suffix], charset="utf-8", headers=headers)

    return web.get(f"/static/{path.name}", serve)
