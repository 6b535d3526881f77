"""The native stream over websocket-client, as its documentation opens a connection: with an Origin, unasked."""

import base64
import json
import os

import websocket


class Robot:
    """One connection of create_connection, with all its defaults."""

    def __init__(self, url):
        self.socket = websocket.create_connection(url.replace("http", "ws", 1) + "/v1/stream", timeout=60)
        self.hello = self.socket.recv()
        self.session = f"websocket-client-{os.getpid()}"  # the last process's may not have been let go of yet

    def act(self, picture, words):
        """The actions of one frame, in JSON."""
        raw = {"__numpy__": base64.b64encode(picture.tobytes()).decode(), "dtype": "|u1", "shape": list(picture.shape)}
        frame = {"type": "frame", "session_id": self.session, "image": raw, "instruction": words}
        self.socket.send(json.dumps(frame))
        return json.loads(self.socket.recv())["actions"]
