"""Processes that tests start and kill."""

from __future__ import annotations

import psutil


def workers_of(parent):
    """Return the worker processes: the children that are not loky's resource tracker."""
    try:
        children = psutil.Process(parent.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    except psutil.Error:
        return []
