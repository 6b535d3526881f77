"""How much one connection may ask of the daemon before it is known whose it is. docs/security.md lists them.

Plain figures; knows no protocol.
"""

from __future__ import annotations

HEAD_BYTES = 16 * 2**10  # of a request's line and headers
HEAD_LINES = 100  # headers of a request
HEAD_S = 30.0  # from a connection's start, or a request's first byte, to the end of the request's head
KEEP_ALIVE_S = 75  # between an answer and the next request; robots that ask every few seconds keep their connection
LINGER_S = 5.0  # from an answer until the body that it did not wait for has come: then the connection is closed
MOST_CHUNKS = 4096  # of one chunked body: 16 MiB in chunks of 4 KiB
EVENTS_A_TURN = 64  # of HTTP that are parsed before other connections have their turn

EVENTS_A_REQUEST = 15  # of one address on average, beyond which its connections are read more slowly: 4 are usual
EVENTS_AT_ONCE = 4_500  # that come before: a body in as many chunks as may be, and more
BYTES_AN_EVENT = 32_768  # that are read cost as much as one event: 15 MiB are 480
REFUSED_BYTES_COST = 4.0  # times as much, of a body that has been refused and is read for its answer to arrive
REST_S = 0.05  # that a connection is left unread for asking too much

CONNECTIONS_A_REQUEST = 1.0  # new ones of one address on average, beyond which they wait unread for their end
CONNECTIONS_AT_ONCE = 32
TARPIT_S = 2.0  # until a connection that is too many of its address is closed: else it comes again at once
MOST_WAITING = 4096  # connections in that state, where the descriptors suffice

FRAMES_A_TURN = 64  # of a WebSocket, likewise
SLICE_BYTES = 4096  # that a WebSocket's parser gets at a time: at most 682 empty frames
MOST_FRAGMENTS = 4096  # of one message: 16 MiB in fragments of 4 KiB
CONTROL_FRAMES_PER_S, CONTROL_FRAMES_AT_ONCE = 50.0, 500.0  # pings and pongs of one connection

BUFFERED_BYTES = 128 * 2**20  # of all WebSockets' messages that have not come whole
MOST_CONNECTIONS = 1024  # where the descriptors suffice
SPARE_DESCRIPTORS = 64  # for files, the log, and what else the process opens
