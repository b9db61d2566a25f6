"""Several handlers in one place of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine


class HandlerGroup:
    """Attaches handlers in their order, so that an overlay can add handlers in the middle of a config's list.

    Args:
        handlers: handlers with an `attach` function; none by default.
    """

    def __init__(self, handlers: Sequence[Any] = ()) -> None:
        self.handlers = handlers

    def attach(self, engine: Engine) -> None:
        """Attaches all handlers to `engine`."""
        for handler in self.handlers:
            handler.attach(engine)
