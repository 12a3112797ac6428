"""A dashboard in Grafana's own JSON, laid out row by row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from infra.grafana.beside import BESIDE
from infra.grafana.panels import FUSE, SPEND, Dashboard, Note, Panel, Row

DASHBOARDS: Final = (FUSE, SPEND, BESIDE)

FOLDER: Final = Path(__file__).parent / "dashboards"
COLUMNS: Final = 24
HEIGHTS: Final = {"stat": 4, "timeseries": 8, "text": 3, "row": 1}
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
CHOICE: Final = {
    "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0,
}  # fmt: skip


def files() -> dict[Path, str]:
    """Each dashboard's file, and what it must say."""
    return {FOLDER / f"{one.uid}.json": f"{json.dumps(page(one), indent=2)}\n" for one in DASHBOARDS}


def page(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["spendfuse"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [CHOICE]},
        "panels": list(_panels(dashboard)),
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    x = y = height = 0
    for number, panel in enumerate(dashboard.panels, 1):
        kind, width = _shape(panel)
        if x + width > COLUMNS:
            x, y, height = 0, y + height, 0
        place = {"x": x, "y": y, "w": width, "h": HEIGHTS[kind]}
        x, height = x + width, max(height, HEIGHTS[kind])
        yield {
            "id": number,
            "type": kind,
            "gridPos": place,
            **_content(panel),
        }


def _shape(panel: Panel | Note | Row) -> tuple[str, int]:
    """Grafana's word for it, and its width."""
    match panel:
        case Row():
            return "row", COLUMNS
        case Note():
            return "text", COLUMNS
    return panel.kind, panel.width


def _content(panel: Panel | Note | Row) -> dict[str, Any]:
    match panel:
        case Row():
            return {"title": panel.title, "collapsed": False, "panels": []}
        case Note():
            return {"title": "", "options": {"mode": "markdown", "content": panel.text}}
    return _picture(panel)


def _picture(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
        if panel.kind == "timeseries":
            defaults["custom"] = {"thresholdsStyle": {"mode": "dashed"}}
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind == "stat" else {},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
            for place, query in enumerate(panel.queries)
        ],
    }
