"""Bounds on one connection before its caller is authenticated. docs/security.md lists them.

Plain figures; knows no protocol.
"""

from __future__ import annotations

HEAD_BYTES = 16 * 2**10  # of a request's line and headers
HEAD_LINES = 100  # headers of a request
HEAD_S = 30.0  # from a connection's start, or a request's first byte, to the end of the request's head
KEEP_ALIVE_S = 75  # between an answer and the next request; robots that ask every few seconds keep their connection
LINGER_S = 5.0  # after an early answer, for the rest of the body: then the connection is closed
MAX_CHUNKS = 4096  # of one chunked body: 16 MiB in chunks of 4 KiB
EVENTS_PER_TURN = 64  # of HTTP parsed before other connections are served

EVENTS_PER_REQUEST = 15  # of one address on average; beyond, its connections are throttled: 4 are usual
EVENT_BURST = 4_500  # burst before that: a body of MAX_CHUNKS chunks, and more
BYTES_PER_EVENT = 32_768  # read that cost one event: 15 MiB cost 480
REFUSED_BYTES_COST = 4.0  # times as much for a refused body, read so that its answer arrives
THROTTLE_DELAY_S = 0.05  # a throttled connection is not read

CONNECTIONS_PER_REQUEST = 1.0  # new ones of one address on average; beyond, they are tarpitted
CONNECTION_BURST = 32
TARPIT_S = 2.0  # before a tarpitted connection is closed: else the client reconnects at once
MAX_TARPITTED = 4096  # tarpitted connections, where the file descriptors suffice

FRAMES_PER_TURN = 64  # of a WebSocket, likewise
SLICE_BYTES = 4096  # given to a WebSocket's parser at a time: at most 682 empty frames
MAX_FRAGMENTS = 4096  # of one message: 16 MiB in fragments of 4 KiB
CONTROL_FRAMES_PER_S, CONTROL_FRAME_BURST = 50.0, 500.0  # pings and pongs of one connection

MAX_BUFFERED_BYTES = 128 * 2**20  # of all WebSockets' incomplete messages
MAX_CONNECTIONS = 1024  # where the file descriptors suffice
SPARE_DESCRIPTORS = 64  # for files, the log, and what else the process opens
