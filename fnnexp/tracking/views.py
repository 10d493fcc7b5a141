"""What MLflow's UI shows of an experiment: its description, and saved views of its runs, all of them tags.

MLflow keeps a saved view as the experiment tag ``mlflow.sharedViewState.ID``; a link opens it with
``viewStateShareKey=ID``. Our tags hold a view twice: MLflow 3.17 reads ``state``, and lists the name in its
menu *Views*; older ones, which know links alone, read the other keys. Without a view the UI's table shows no
parameter and no metric, and nothing but a view can change that for a browser that was never here.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

RUNS, CURVES, PARALLEL = "fnnexp-runs", "fnnexp-curves", "fnnexp-parallel"
"""The ids of our views."""

SAVED_VIEW = "mlflow.sharedViewState."
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
COMMANDS = "fnnexp.commands"

FIRST = ("arch", "init", "batching", "seed")
"""The params whose columns come first; others follow, if they vary among trials that agree in GROUPED."""

MOST_OTHERS, MOST_CLOSED = 6, 8
"""As many columns, and groups without their runs, as a tag has room for."""

GROUPED = ("init", "arch", "batching")
"""What mean curves are grouped by: the first of these that varies, else any param that does."""

MOST = 2000
"""Characters of the commands and of what a report says; MLflow takes 5,000 a tag."""

WIDTHS = {"attributes.`Run Name`": 215, "runDateAndNestInfo": 135}
"""Pixels of the columns that MLflow always shows, before all others."""

WHOLE: Mapping[str, Any] = {
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
"""What MLflow's state of a page has. Older ones take a view for the whole of it, and fall over what lacks."""


@dataclass(frozen=True)
class About:
    """What a sweep says of itself on its experiment's page.

    Attributes
    ----------
    experiment
        Its name.
    params
        Of each trial.
    validated
        Whether all trials have validation metrics; they are ranked by test metrics otherwise.
    command
        The command line, as it was typed; None: it was no command.
    """

    experiment: str
    params: Sequence[Mapping[str, str]]
    validated: bool
    command: str | None = None

    def tags(self, there: Mapping[str, str]) -> dict[str, str]:
        """Return the experiment's tags, of which `there` are set, without its description."""
        views = {f"{SAVED_VIEW}{key}": view for key, view in self._views.items()}
        said = [line for line in there.get(COMMANDS, "").splitlines() if line != self.command]
        commands = _last([*said, self.command] if self.command else said)
        return {KIND: TRAINING, **there, **views, **({COMMANDS: "\n".join(commands)} if commands else {})}

    def text(self) -> str:
        """Return what the sweep is, in one sentence."""
        values = {key: len({each.get(key) for each in self.params}) for key in self._columns}
        varied = [f"{key} ({count})" for key, count in values.items() if count > 1]
        data = " and ".join(sorted({each["data"] for each in self.params if "data" in each}))
        if len(self.params) == 1:
            return f"One trial on {data}."
        return f"{len(self.params)} trials on {data}, one run each: {' × '.join(varied)}."

    @cached_property
    def _columns(self) -> list[str]:
        others = sorted({key for each in self.params for key in each} - {*FIRST})
        return [*FIRST, *[key for key in others if self._varies_beside(key)][:MOST_OTHERS]]

    def _varies(self, key: str) -> bool:
        return len({each.get(key) for each in self.params}) > 1

    def _varies_beside(self, key: str) -> bool:
        """Whether a param has several values among trials that agree in its option and in GROUPED."""
        agreed = {*GROUPED, key.partition(".")[0]} - {key}
        found = defaultdict(set)
        for each in self.params:
            found[tuple(each.get(name) for name in sorted(agreed))].add(each.get(key))
        return any(len(values) > 1 for values in found.values())

    @cached_property
    def _views(self) -> dict[str, str]:
        split = "val" if self.validated else "test"
        best = [f"best_{split}_accuracy", f"best_{split}_epoch"] if self.validated else []
        last = [f"{split}_accuracy", f"{split}_loss", "train_accuracy", "train_loss"]
        params = self._columns
        widths = {_param(key): _width([key, *_values(self.params, key)]) for key in params}
        widths |= {_metric(key): _width([key, "0.123456"]) for key in (*best, *last)}
        columns = [*widths, "attributes.`Duration`"]
        by = next((key for key in (*GROUPED, *params) if key != "seed" and self._varies(key)), GROUPED[0])
        axes = [key for key in params if self._varies(key)] or params
        ranked = {"orderByKey": _metric((best or last)[0]), "orderByAsc": False}
        shown = {"runsHiddenMode": "SHOW_ALL", "isAccordionReordered": True}
        return {
            RUNS: _view(
                "Runs, best first",
                3,
                ranked
                | {"selectedColumns": columns, "columnOrder": [*WIDTHS, *columns]}
                | {"columnWidths": WIDTHS | widths},
            ),
            CURVES: _view(
                f"Mean curves by {by}",
                2,
                # MLflow groups the hundred runs that it loads first: by seed, no group has the better ones.
                {"orderByKey": _param("seed"), "orderByAsc": True}
                | {"searchFilter": "attributes.run_name != 'report'"}
                | {
                    "groupBy": {
                        "aggregateFunction": "average",
                        "groupByKeys": [{"mode": "param", "groupByData": by}],
                    },
                    "groupsExpanded": {
                        f"param.{by}.{value}": False for value in _values(self.params, by)[:MOST_CLOSED]
                    },
                }
                | shown
                | _charts("Curves by epoch", 2, [_line(key) for key in last]),
            ),
            PARALLEL: _view(
                "Parallel coordinates",
                1,
                ranked | shown | _charts("Parallel coordinates", 1, [_coordinates(axes, (best or last)[0])]),
            ),
        }


def link(experiment_id: str, view: str = RUNS, server: str = "") -> str:
    """Return the address of a view.

    >>> link("1", server="http://127.0.0.1:5000/")
    'http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=fnnexp-runs'
    """
    charts = "" if view == RUNS else "&compareRunsMode=CHART"
    return f"{_page(experiment_id, server)}{charts}&viewStateShareKey={view}"


def _page(experiment_id: str, server: str = "", below: str = "") -> str:
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs{below}?workflowType=machine_learning"


def report_command(experiment: str, where: Sequence[str] = ()) -> str:
    """Return the command that makes an experiment's report, or that of a part of it, as a shell takes it.

    >>> report_command("a b", ["init=he"]), report_command("-x")
    ("fnnexp report 'a b' init=he", 'fnnexp report -- -x')
    """
    words = [*(["--"] if experiment.startswith("-") else []), experiment, *where]
    return f"fnnexp report {shlex.join(words)}"


def description(
    experiment: str, experiment_id: str, tags: Mapping[str, str], said: str, report: str | None = None
) -> str:
    """Return an experiment's description in Markdown.

    Parameters
    ----------
    experiment, experiment_id, tags
        The experiment; its tags tell the views there are and the commands that made it.
    said
        What comes first, for MLflow shows one line until it is opened.
    report
        The id of the run that holds the report, if there is one.
    """
    views = [(key, tags.get(f"{SAVED_VIEW}{key}")) for key in (RUNS, CURVES, PARALLEL)]
    links = [f"[{json.loads(view)['name']}]({link(experiment_id, key)[1:]})" for key, view in views if view]
    again = f"`{report_command(experiment)}`"
    parts = [_cut(said)]
    if report is not None:
        page = _page(experiment_id, below=f"/{report}/artifacts/report.html")[1:]
        parts.append(f"[The whole report]({page}). {again} writes it again, with what was trained since.")
    if links:
        parts.append(f"Views: {' · '.join(links)}. MLflow loads 100 runs; *Load more* is below them.")
    if tags.get(COMMANDS):
        lines = "\n".join(f"    {line}" for line in tags[COMMANDS].splitlines())
        parts.append(f"Made by\n\n{lines}")
    if report is None:
        parts.append(f"{again} compares the trials and answers.")
    return "\n\n".join(parts)


def _param(key: str) -> str:
    return f"params.`{key}`"


def _metric(key: str) -> str:
    return f"metrics.`{key}`"


def _values(params: Iterable[Mapping[str, str]], key: str) -> list[str]:
    return sorted({each[key] for each in params if key in each})


def _width(texts: Iterable[str]) -> int:
    """Return the pixels of a column that shows these."""
    return 26 + round(6.5 * max(map(len, texts)))


def _view(name: str, place: int, state: Mapping[str, Any]) -> str:
    """Return a saved view as MLflow keeps it; those of a higher place stand first in its menu."""
    inner = json.dumps(state, separators=(",", ":"))
    return json.dumps(
        {"name": name, "createdAt": place, "state": inner, **WHOLE, **state}, separators=(",", ":")
    )


def _charts(title: str, columns: int, charts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    section = {"uuid": "fnnexp", "name": title, "display": True, "isReordered": True, "columns": columns}
    common = {"metricSectionId": "fnnexp", "isGenerated": True, "deleted": False}
    return {"compareRunSections": [section], "compareRunCharts": [{**common, **chart} for chart in charts]}


def _line(metric: str) -> dict[str, Any]:
    exactly = {"lineSmoothness": 0, "useGlobalLineSmoothing": True, "ignoreOutliers": False}
    axes = {"xAxisKey": "step", "useGlobalXaxisKey": True, "xAxisScaleType": "linear", "scaleType": "linear"}
    return {"type": "LINE", "uuid": metric, "metricKey": metric, **exactly, **axes}


def _coordinates(params: Sequence[str], metric: str) -> dict[str, Any]:
    chosen = {"selectedParams": list(params), "selectedMetrics": [metric], "showAllRuns": True}
    return {"type": "PARALLEL", "uuid": "parallel", **chosen}


def _cut(text: str) -> str:
    return text if len(text) <= MOST else text[: MOST - 2] + " …"


def _last(lines: Sequence[str]) -> list[str]:
    """Return the last lines that MOST characters hold, at least one, cut if need be."""
    kept: list[str] = []
    for line in reversed(lines):
        if kept and len(line) + sum(len(each) + 5 for each in kept) > MOST:
            break
        kept.insert(0, _cut(line))
    return kept
