"""Write the saved views of an experiment's runs in the format of MLflow's UI.

MLflow stores a saved view as the experiment tag ``mlflow.sharedViewState.ID``, and a link opens it with
``viewStateShareKey=ID``. The UI's format is private and undocumented. Each tag contains the view twice:
MLflow 3.17 reads ``state`` and lists the view's name in its menu *Views*; older versions, which support only
links, read the other keys. Without a view, the UI's table shows neither params nor metrics in a new browser.
If the installed MLflow version may use another format (:func:`is_known`), no view is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

from fnnexp.tracking.run_format import BEST, LONGEST_TAG

RUNS, CURVES, PARALLEL = "fnnexp-runs", "fnnexp-curves", "fnnexp-parallel"
"""The ids of fnnexp's views."""

PREFIX = "mlflow.sharedViewState."
"""The beginning of the tags of saved views."""

KNOWN_MAJOR = "3"
"""The major version of MLflow with this format."""

MOST_COLLAPSED = 50
"""Maximum number of groups of runs that a view shows collapsed, if the view's tag has room for them."""

DEFAULT_KEYS = ("arch", "init", "batching")
"""The params that label the mean curve if there is only one configuration."""

LOADED = 100
"""The number of runs that MLflow's page loads at first."""

MOST_LINES, BEST_LINES = 20, "FIRST_20_RUNS"
"""With more configurations than this, a chart at first shows only the mean curves of the best 20."""

WIDTHS = {"attributes.`Run Name`": 215, "runDateAndNestInfo": 135}
"""The widths in pixels of the columns that MLflow always shows first."""

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
"""All keys of the state of MLflow's page. Older versions fail if a view lacks any of them."""


def is_known() -> bool:
    """Return whether the installed MLflow version has saved views in the format of this module."""
    return version("mlflow").partition(".")[0] == KNOWN_MAJOR


class Trials(NamedTuple):
    """The trials of an experiment as views need them: how many there are, and the values of their params.

    Trials of a configuration differ only in seed. ``rows`` yields the values of some params in each
    configuration; ``values`` returns those of one param. None is the value of a trial without the param.
    """

    total: int
    rows: Callable[[Sequence[str]], Iterable[tuple[str | None, ...]]]
    values: Callable[[str], Collection[str | None]]


def tags(
    trials: Trials,
    columns: Sequence[str],
    configuration_keys: Sequence[str],
    splits: Sequence[str],
) -> dict[str, str]:
    """Return the saved views of an experiment in MLflow's UI, as tags; a view too long for a tag is omitted.

    Parameters
    ----------
    trials
        The trials.
    columns
        The params to show as columns.
    configuration_keys
        The params that distinguish configurations. Mean curves are grouped by all of these, so that every
        curve is a mean only over seeds.
    splits
        The splits whose metrics are shown, `val` or `test` or both. The first split ranks the trials.
    """
    if not is_known():
        return {}
    last = {split: (f"{split}_accuracy", f"{split}_loss") for split in (*splits, "train")}
    best = {"val": BEST}
    metrics = [key for split in last for key in (*best.get(split, ()), *last[split])]
    charts = [key for split in [*last][:2] for key in last[split]]  # a tag has room for two charts only
    axes = [key for key in columns if len(trials.values(key)) > 1] or columns
    ranking = {"orderByKey": _metric(metrics[0]), "orderByAsc": False}
    views = {
        RUNS: _runs(ranking, trials, columns, metrics),
        CURVES: _mean_curves(ranking, trials, configuration_keys, charts),
        PARALLEL: _parallel_coordinates(ranking, axes, metrics[0]),
    }
    return {f"{PREFIX}{key}": view for key, view in views.items() if len(view) <= LONGEST_TAG}


def links(experiment_id: str, tags: Mapping[str, str]) -> list[str]:
    """Return Markdown links to the views that an experiment's tags contain."""
    views = [(key, tags.get(f"{PREFIX}{key}")) for key in (RUNS, CURVES, PARALLEL)]
    return [f"[{json.loads(view)['name']}]({link(experiment_id, key)[1:]})" for key, view in views if view]


def link(experiment_id: str, view: str = RUNS, server: str = "") -> str:
    """Return the address at which MLflow's UI shows a saved view.

    >>> link("1", server="http://127.0.0.1:5000/")
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=fnnexp-runs'
    """
    charts = "" if view == RUNS else "&compareRunsMode=CHART"
    shared = f"&viewStateShareKey={view}" if is_known() else ""
    return f"{page(experiment_id, server)}{charts}{shared}"


def page(experiment_id: str, server: str = "", below: str = "") -> str:
    """Return the address of an experiment's page in MLflow's UI; `below` adds the path of a page below it."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs{below}?workflowType=machine_learning"


ALL_SHOWN = {"runsHiddenMode": "SHOW_ALL", "isAccordionReordered": True}


def _runs(
    ranking: Mapping[str, object],
    trials: Trials,
    columns: Sequence[str],
    metrics: list[str],
) -> str:
    widths = {_param(key): _width([key, *filter(None, trials.values(key))]) for key in columns}
    widths |= {_metric(key): _width([key, "0.123456"]) for key in metrics}
    selected = [*widths, "attributes.`Duration`"]
    table = {"selectedColumns": selected, "columnOrder": [*WIDTHS, *selected]}
    return _view("Runs, best first", 3, {**ranking, **table, "columnWidths": WIDTHS | widths})


def _mean_curves(
    ranking: Mapping[str, object],
    trials: Trials,
    configuration_keys: Sequence[str],
    metrics: Sequence[str],
) -> str:
    keys = configuration_keys or DEFAULT_KEYS
    rows = trials.rows(keys)
    groups = sorted({tuple("null" if value is None else value for value in row) for row in rows})
    group_ids = [
        ",".join(f"param.{key}.{value}" for key, value in zip(keys, group, strict=True)) for group in groups
    ]
    if trials.total <= LOADED:
        order: Mapping[str, object] = ranking
        shown = "SHOW_ALL" if len(groups) <= MOST_LINES else BEST_LINES
    else:  # MLflow averages only the runs that it loads, so do not load the best seeds first.
        order, shown = {"orderByKey": _param("seed"), "orderByAsc": True}, "SHOW_ALL"
    charts = _charts("Curves by epoch", 2, [_line(key) for key in metrics])
    group_by = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": key} for key in keys],
    }
    for count in range(min(len(group_ids), MOST_COLLAPSED), -1, -1):
        state = {
            **order,
            "searchFilter": "attributes.run_name != 'report'",
            "groupBy": group_by,
            "groupsExpanded": dict.fromkeys(group_ids[:count], False),
            **ALL_SHOWN,
            "runsHiddenMode": shown,
            **charts,
        }
        view = _view(f"Mean curves over seeds, by {', '.join(keys)}", 2, state)
        if len(view) <= LONGEST_TAG:
            break
    return view


def _parallel_coordinates(ranking: Mapping[str, object], axes: Sequence[str], metric: str) -> str:
    selected = {"selectedParams": list(axes), "selectedMetrics": [metric], "showAllRuns": True}
    charts = _charts("Parallel coordinates", 1, [{"type": "PARALLEL", "uuid": "parallel", **selected}])
    return _view("Parallel coordinates", 1, {**ranking, **ALL_SHOWN, **charts})


def _param(key: str) -> str:
    return f"params.`{key}`"


def _metric(key: str) -> str:
    return f"metrics.`{key}`"


def _width(texts: Iterable[str]) -> int:
    """Return the width in pixels of a column that shows these texts."""
    return 26 + round(6.5 * max(map(len, texts)))


def _view(name: str, created_at: int, state: Mapping[str, object]) -> str:
    """Return a saved view in MLflow's format. MLflow's menu lists views with a later `created_at` first."""
    inner = json.dumps(state, separators=(",", ":"))
    return json.dumps(
        {"name": name, "createdAt": created_at, "state": inner, **WHOLE, **state}, separators=(",", ":")
    )


def _charts(title: str, columns: int, charts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    section = {"uuid": "fnnexp", "name": title, "display": True, "isReordered": True, "columns": columns}
    common = {"metricSectionId": "fnnexp", "isGenerated": True}
    return {"compareRunSections": [section], "compareRunCharts": [{**common, **chart} for chart in charts]}


def _line(metric: str) -> dict[str, object]:
    exactly = {"lineSmoothness": 0, "useGlobalLineSmoothing": True}
    axes = {"xAxisKey": "step", "useGlobalXaxisKey": True, "xAxisScaleType": "linear", "scaleType": "linear"}
    return {"type": "LINE", "uuid": metric, "metricKey": metric, **exactly, **axes}
