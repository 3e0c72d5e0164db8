"""The package that `streamt1 new-adapter rolling` writes, importable: the example of docs/adapters.md."""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from streamt1_plugins.cli.scaffold import Scaffold

_FOLDER = TemporaryDirectory(prefix="streamt1-rolling-")
atexit.register(_FOLDER.cleanup)

FOLDER = Path(_FOLDER.name)
Scaffold("adapter", "rolling").write(FOLDER)
sys.path.insert(0, str(FOLDER))

from streamt1_rolling import CAPABILITIES as CAPABILITIES  # noqa: E402  (it was written just now)
from streamt1_rolling.adapter import RollingAdapter as RollingAdapter  # noqa: E402
from streamt1_rolling.adapter import RollingSession as RollingSession  # noqa: E402
from streamt1_rolling.pipeline import RollingPipeline as RollingPipeline  # noqa: E402
