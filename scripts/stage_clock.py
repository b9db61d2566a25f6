"""Times stages of a program by replacing functions for a while: the program itself knows nothing of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from typing import Any
from unittest.mock import patch

Place = tuple[Any, str, str]  # the name of a module or an object, the name of its function, and the function's stage


class StageClock:
    """Seconds of each stage; a stage that another one calls counts for itself alone.

    Attributes:
        seconds: by stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block for a stage, and not for the one around it."""
        self._count()
        self._running.append(name)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function whose time counts for a stage."""

        @wraps(function)
        def call(*values: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*values, **options)

        return call

    @contextmanager
    def watching(self, places: Sequence[Place]) -> Iterator[None]:
        """Times the functions at these places as long as the block runs."""
        with ExitStack() as stack:
            for place, name, stage in places:
                owner = import_module(place) if isinstance(place, str) else place
                stack.enter_context(patch.object(owner, name, self.timed(stage, getattr(owner, name))))
            yield

    def _count(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
