"""Obeys orders with one program's robots: `drive.py PROGRAM URL`, a line of JSON in, a line of JSON out.

Runs in the client's environment, so it knows the standard library and numpy alone. `real.py` is its other end.
"""

import base64
import runpy
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


def main(program, url):
    """Obey until there are no more orders."""
    robot_class, robots = runpy.run_path(program)["Robot"], {}
    for line in sys.stdin:
        said = obey(robots, lambda: robot_class(url), *loads(line, object_hook=hear))
        sys.stdout.write(dumps(said, default=tell) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
