"""The built-in observers: they follow a run through its hooks and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterPolicy


@hookimpl
def streamt1_register_policies(register: RegisterPolicy) -> None:
    register("console", kind="observer", target="streamt1_plugins.runs.observers.console:Console")
    register("folder", kind="observer", target="streamt1_plugins.runs.observers.folder:Folder")
    register("journal", kind="observer", target="streamt1_plugins.runs.observers.journal:Journal")
    register("report", kind="observer", target="streamt1_plugins.runs.observers.report:ReportPage")
    register("trackers", kind="observer", target="streamt1_plugins.runs.observers.trackers:Trackers")
    register("wandb", kind="observer", target="streamt1_plugins.runs.observers.wandb:Wandb")
    register("video", kind="observer", target="streamt1_plugins.runs.observers.video:Video")
