"""Obeys orders with one program's robots: `drive.py PROGRAM FD`, a line of JSON in, a line of JSON out.

Runs in the client's environment, so it knows the standard library and numpy alone. `real.py` is its other end: each
socket that comes over FD belongs to a fork of this process, which begins with what the program imports and no robot.
"""

import base64
import os
import runpy
import signal
import socket
import sys
from json import dumps, loads  # before json-numpy patches them

import numpy as np


def tell(value):
    """Write what JSON has no word for; bytes-like keys and arrays as they are in the client's hands."""
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": [value.dtype.str, value.shape, base64.b64encode(value.tobytes()).decode()]}
    return repr(value)


def hear(value):
    """Read an order's arrays."""
    if "array" not in value:
        return value
    dtype, shape, data = value["array"]
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)[()]  # without a shape: a scalar


def obey(robots, connect, robot, do, *arguments):
    """Do it; an exception is an answer too."""
    try:
        if robot not in robots:
            robots[robot] = connect()
        return getattr(robots[robot], do)(*arguments)
    except Exception as error:  # noqa: BLE001 (whatever the client throws at its caller is what is tested)
        return {"raised": [type(error).__name__, str(error)]}


def attend(robot_class, line):
    """Hear the robots' address, say which process this is, and obey until there are no more orders."""
    robots, orders = {}, line.makefile(encoding="utf-8")
    url = loads(orders.readline())
    line.sendall(f"{os.getpid()}\n".encode())
    for order in orders:
        said = obey(robots, lambda: robot_class(url), *loads(order, object_hook=hear))
        line.sendall(dumps(said, default=tell).encode() + b"\n")


def main(program, fd):
    """Fork for each line that is asked for, until no more are."""
    robot_class = runpy.run_path(program)["Robot"]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(fileno=int(fd)) as door:
        while lines := socket.recv_fds(door, 4, 1)[1]:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                attend(robot_class, socket.socket(fileno=lines[0]))
                return
            os.close(lines[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
