"""msgpack for schemathesis, which knows JSON and forms. Loaded by it, in its own environment."""

import msgpack
import schemathesis


@schemathesis.serializer("application/msgpack")
def packed(ctx, value):  # noqa: ARG001 (schemathesis' shape)
    """The body's bytes."""
    return msgpack.packb(value, default=str)


@schemathesis.deserializer("application/msgpack")
def unpacked(ctx, response):  # noqa: ARG001 (schemathesis' shape)
    """What a body says; arrays in it as the rows that the schema speaks of."""
    return msgpack.unpackb(response.content, object_hook=_rows)


def _rows(found):
    if b"__ndarray__" not in found:
        return found
    height, width = found[b"shape"]
    numbers = memoryview(found[b"data"]).cast("f").tolist()
    return [numbers[at * width : (at + 1) * width] for at in range(height)]
