"""A client of its user's own making on msgpack-numpy, whose arrays are another form than openpi's.

Source: the form is lebedov/msgpack-numpy's; the messages are openpi's.
"""

import msgpack_numpy
import numpy as np
import requests
import websockets.sync.client


class Robot:
    """A socket for openpi's dialect; posts to the native wire."""

    def __init__(self, url):
        self.url, self.socket = url, None

    def act(self, picture, words):
        """Over the socket; the reply's arrays are openpi's."""
        if self.socket is None:
            self.socket = websockets.sync.client.connect(self.url.replace("http", "ws", 1), compression=None)
            self.socket.recv()
        self.socket.send(msgpack_numpy.packb({"observation/image": picture, "prompt": words}))
        reply = self.socket.recv()
        if isinstance(reply, str):
            raise RuntimeError(reply)
        return self.opened(msgpack_numpy.unpackb(reply)["actions"])

    def post(self, picture, words):
        """Over HTTP, native words."""
        body = msgpack_numpy.packb({"image": picture, "instruction": words})
        headers = {"Content-Type": "application/msgpack"}
        answer = requests.post(self.url + "/v1/act", data=body, headers=headers, timeout=60)
        return self.opened(msgpack_numpy.unpackb(answer.content)["actions"])

    def opened(self, array):
        """An array out of a map of openpi's form."""
        return np.frombuffer(array[b"data"], array[b"dtype"]).reshape(array[b"shape"])

    def spoil(self, picture, words):
        """A frame that no server can answer: the picture lost its colours."""
        return self.act(picture[..., :2], words)
