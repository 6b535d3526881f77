"""`python -m fault_kit.namespace SETTINGS SWITCHES`: the robot in a network namespace of its own, which can be cut off.

A relay inside takes its connections to a Unix socket, which leads out. The switch `network` takes the loopback down:
then no packet arrives any more, and none is refused.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import runpy
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from fault_kit.switches import Switches

NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000
SET_FLAGS, UP = 0x8914, 1
DIES_WITH_PARENT = 1


def enter() -> None:
    """Go into a namespace of its own. Raises OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NETWORK) and libc.unshare(NEW_USER | NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network namespace may be made")


def loopback(*, up: bool) -> None:
    """Take the loopback up or down. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP if up else 0))


def relay(port: int, path: str) -> None:
    """Pass connections to a port on to a Unix socket."""
    server = socket.create_server(("127.0.0.1", port))
    while True:
        inner, _ = server.accept()
        outer = socket.socket(socket.AF_UNIX)
        outer.connect(path)
        for ends in ((inner, outer), (outer, inner)):
            threading.Thread(target=passing, args=ends, daemon=True).start()


def passing(reader: socket.socket, writer: socket.socket) -> None:
    """Pass bytes on."""
    while data := reader.recv(65536):
        writer.sendall(data)
    writer.shutdown(socket.SHUT_WR)


def cut(switches: Switches) -> None:
    """Look at the switch."""
    while not switches.is_on("network"):
        time.sleep(0.002)
    loopback(up=False)


if __name__ == "__main__":
    enter()
    loopback(up=True)
    settings = Path(sys.argv[1])
    port = int(json.loads(settings.read_text())["policy"]["url"].rsplit(":", 1)[1])
    if not os.fork():
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
        relay(port, str(settings.with_name("socket")))
    threading.Thread(target=cut, args=(Switches(Path(sys.argv[2])),), daemon=True).start()
    runpy.run_module("fault_kit.robot", run_name="__main__")
