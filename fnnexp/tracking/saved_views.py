"""Writes MLflow's saved-view format: views of an experiment's runs, which MLflow's UI keeps as its tags.

MLflow keeps a saved view as the experiment tag ``mlflow.sharedViewState.ID``; a link opens it with
``viewStateShareKey=ID``. The format is the UI's own and is documented nowhere. Our tags hold a view twice:
MLflow 3.17 reads ``state``, and lists the name in its menu *Views*; older versions, which know links alone,
read the other keys. Without a view the UI shows neither params nor metrics in its table, and nothing else can
change that for a browser that was never here. For an MLflow that may have another format (:func:`is_known`)
no view is written, and an experiment has its description alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

RUNS, CURVES, PARALLEL = "fnnexp-runs", "fnnexp-curves", "fnnexp-parallel"
"""The ids of our views."""

PREFIX = "mlflow.sharedViewState."
"""What the tags of saved views begin with."""

KNOWN_MAJOR = "3"
"""The major version of MLflow whose format this is."""

MOST_CLOSED = 8
"""As many groups without their runs as a tag has room for."""

GROUPED = ("init", "arch", "batching")
"""What mean curves are grouped by: the first of these that varies, else any param that does."""

WIDTHS = {"attributes.`Run Name`": 215, "runDateAndNestInfo": 135}
"""Pixels of the columns that MLflow always shows, before all others."""

WHOLE: Mapping[str, object] = {
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "FIRST_10_RUNS",
    "selectedColumns": [],
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    "searchFilter": "",
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
}
"""All keys of the state of MLflow's page. Older versions take a view for all of it, and fail without one."""


def is_known() -> bool:
    """Whether the MLflow that is installed has the format that is written here."""
    return version("mlflow").partition(".")[0] == KNOWN_MAJOR


def tags(params: Sequence[Mapping[str, str]], columns: Sequence[str], validated: bool) -> dict[str, str]:
    """Return our views of trials with these params as tags of their experiment.

    Parameters
    ----------
    params
        Of each trial.
    columns
        The params that are worth a column.
    validated
        Whether all trials have validation metrics; they are ranked by test metrics otherwise.
    """
    if not is_known():
        return {}

    def varies(key: str) -> bool:
        return len({each.get(key) for each in params}) > 1

    split = "val" if validated else "test"
    best = [f"best_{split}_accuracy", f"best_{split}_epoch"] if validated else []
    last = [f"{split}_accuracy", f"{split}_loss", "train_accuracy", "train_loss"]
    by = next((key for key in (*GROUPED, *columns) if key != "seed" and varies(key)), GROUPED[0])
    axes = [key for key in columns if varies(key)] or columns
    ranked = {"orderByKey": _metric((best or last)[0]), "orderByAsc": False}
    views = {
        RUNS: _runs(ranked, params, columns, [*best, *last]),
        CURVES: _mean_curves(by, params, last),
        PARALLEL: _parallel_coordinates(ranked, axes, (best or last)[0]),
    }
    return {f"{PREFIX}{key}": view for key, view in views.items()}


def links(experiment_id: str, tags: Mapping[str, str]) -> list[str]:
    """Return a Markdown link to each of our views that is among an experiment's tags."""
    views = [(key, tags.get(f"{PREFIX}{key}")) for key in (RUNS, CURVES, PARALLEL)]
    return [f"[{json.loads(view)['name']}]({link(experiment_id, key)[1:]})" for key, view in views if view]


def link(experiment_id: str, view: str = RUNS, server: str = "") -> str:
    """Return the address of a view.

    >>> link("1", server="http://127.0.0.1:5000/")
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=fnnexp-runs'
    """
    charts = "" if view == RUNS else "&compareRunsMode=CHART"
    shared = f"&viewStateShareKey={view}" if is_known() else ""
    return f"{page(experiment_id, server)}{charts}{shared}"


def page(experiment_id: str, server: str = "", below: str = "") -> str:
    """Return the address of an experiment's page in MLflow's UI, or of one below it."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs{below}?workflowType=machine_learning"


SHOWN = {"runsHiddenMode": "SHOW_ALL", "isAccordionReordered": True}


def _runs(
    ranked: Mapping[str, object],
    params: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    metrics: list[str],
) -> str:
    widths = {_param(key): _width([key, *_values(params, key)]) for key in columns}
    widths |= {_metric(key): _width([key, "0.123456"]) for key in metrics}
    selected = [*widths, "attributes.`Duration`"]
    table = {"selectedColumns": selected, "columnOrder": [*WIDTHS, *selected]}
    return _view("Runs, best first", 3, {**ranked, **table, "columnWidths": WIDTHS | widths})


def _mean_curves(by: str, params: Sequence[Mapping[str, str]], metrics: Sequence[str]) -> str:
    # MLflow groups the hundred runs that it loads first: sorted by seed, no group has the better ones.
    order = {"orderByKey": _param("seed"), "orderByAsc": True}
    grouped = {
        "searchFilter": "attributes.run_name != 'report'",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": by}]},
        "groupsExpanded": {f"param.{by}.{value}": False for value in _values(params, by)[:MOST_CLOSED]},
    }
    charts = _charts("Curves by epoch", 2, [_line(key) for key in metrics])
    return _view(f"Mean curves by {by}", 2, {**order, **grouped, **SHOWN, **charts})


def _parallel_coordinates(ranked: Mapping[str, object], axes: Sequence[str], metric: str) -> str:
    chosen = {"selectedParams": list(axes), "selectedMetrics": [metric], "showAllRuns": True}
    charts = _charts("Parallel coordinates", 1, [{"type": "PARALLEL", "uuid": "parallel", **chosen}])
    return _view("Parallel coordinates", 1, {**ranked, **SHOWN, **charts})


def _param(key: str) -> str:
    return f"params.`{key}`"


def _metric(key: str) -> str:
    return f"metrics.`{key}`"


def _values(params: Iterable[Mapping[str, str]], key: str) -> list[str]:
    return sorted({each[key] for each in params if key in each})


def _width(texts: Iterable[str]) -> int:
    """Return the pixels of a column that shows these."""
    return 26 + round(6.5 * max(map(len, texts)))


def _view(name: str, place: int, state: Mapping[str, object]) -> str:
    """Return a saved view as MLflow keeps it; those of a higher place stand first in its menu."""
    inner = json.dumps(state, separators=(",", ":"))
    return json.dumps(
        {"name": name, "createdAt": place, "state": inner, **WHOLE, **state}, separators=(",", ":")
    )


def _charts(title: str, columns: int, charts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    section = {"uuid": "fnnexp", "name": title, "display": True, "isReordered": True, "columns": columns}
    common = {"metricSectionId": "fnnexp", "isGenerated": True, "deleted": False}
    return {"compareRunSections": [section], "compareRunCharts": [{**common, **chart} for chart in charts]}


def _line(metric: str) -> dict[str, object]:
    exactly = {"lineSmoothness": 0, "useGlobalLineSmoothing": True, "ignoreOutliers": False}
    axes = {"xAxisKey": "step", "useGlobalXaxisKey": True, "xAxisScaleType": "linear", "scaleType": "linear"}
    return {"type": "LINE", "uuid": metric, "metricKey": metric, **exactly, **axes}
