"""Delivers starts and stops on a thread: of those that wait only the newest counts, and a stop is tried until it works.

Knows no ROS: how a service is called is handed in.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Mapping, Optional, Sequence

SERVICES: Mapping[str, Sequence[str]] = {"start": ("start",), "stop": ("stop", "clear_trajectories")}
AGAIN_S = 0.2
START_TRIES = 5
CLOSING_S = 3.0


class Orders:
    """The thread of one arm. `error`: why the last start had no effect. `owed`: why a stop was not delivered yet."""

    def __init__(self, call: Callable[[str], None]):
        """`call` calls the service of a name and raises whatever it likes where that fails."""
        self.error = self.owed = ""
        self._call = call
        self._changed = threading.Condition()
        self._wanted: Optional[str] = None
        self._until_s: Optional[float] = None  # closing: when to leave
        self._thread = threading.Thread(target=self._run, name="stillframe-ros-orders", daemon=True)
        self._thread.start()

    def give(self, name: str) -> None:
        """Leave one of SERVICES' names in place of an order that was not begun. Never waits."""
        with self._changed:
            self._wanted = name
            self._changed.notify()

    def close(self) -> None:
        """End the thread; a stop that is still owed is tried for a while."""
        with self._changed:
            self._until_s = time.monotonic() + CLOSING_S
            self._changed.notify()
        self._thread.join(CLOSING_S + AGAIN_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._until_s is not None)
                name, self._wanted = self._wanted, None
            if name is None:
                return
            self._deliver(name)

    def _deliver(self, name: str) -> None:
        """Until it works, a newer order comes, a start was tried often enough, or the time to close is over."""
        tries, over = 0, False
        while not over:
            failure = self._failure(name)
            self.owed = failure if name == "stop" else ""
            tries += 1
            if failure and name == "start" and tries == START_TRIES:
                self.error = failure
            over = not failure or (name == "start" and tries == START_TRIES) or self._gives_up(name)

    def _gives_up(self, name: str) -> bool:
        """Wait a little; whether there is no use in another try."""

        def useless() -> bool:
            late = self._until_s is not None and (name == "start" or time.monotonic() > self._until_s)
            return late or self._wanted is not None

        with self._changed:
            return self._changed.wait_for(useless, AGAIN_S)

    def _failure(self, name: str) -> str:
        """Call the services of an order, each whatever the others gave; what failed, in words."""
        failures = []
        for service in SERVICES[name]:
            try:
                self._call(service)
            except Exception as error:  # noqa: BLE001 -- ROS has many, and a thread that ends delivers no stop
                failures.append(f"in/{service} failed: {error}")
        return "; ".join(failures)
