"""A studio that is served in a thread, for browsers and clients of the tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from streamt1_studio.serving import Served
from streamt1_studio.studio import Studio


@contextlib.contextmanager
def served(studio: Studio) -> Iterator[str]:
    """The address of a studio that is served until the block ends; then the studio is closed."""
    server = Served("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=(studio,))
    thread.start()
    try:
        yield server.url
    finally:
        studio.close()
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
