"""CogACT's documented client: a form of two files. Source: microsoft/CogACT README, scripts/deploy.py."""

import io
import json

import PIL.Image
import requests


class Robot:
    """Posts a PNG and the words of the task; reads a list of numbers, or of such lists."""

    def __init__(self, url):
        self.url = url + "/api/inference"

    def post(self, picture, words):
        """Bytes of a picture, an object to be JSON."""
        files = [
            ("images", ("image_0.png", picture, "image/png")),
            ("json", ("task.json", json.dumps(words), "application/json")),
        ]
        return requests.post(self.url, files=files, timeout=60)

    def act(self, picture, instruction):
        """The list."""
        return self.post(self.png(picture), {"task_description": instruction}).json()

    def png(self, picture):
        """Stored rather than compressed: the same bytes wherever it runs."""
        sink = io.BytesIO()
        PIL.Image.fromarray(picture).save(sink, "PNG", compress_level=0)
        return sink.getvalue()

    def spoil(self, picture, instruction):
        """A frame that no server can answer: half of the picture is missing."""
        png = self.png(picture)
        answer = self.post(png[: len(png) // 2], {"task_description": instruction})
        if not answer.ok:
            raise RuntimeError(f"{answer.status_code} {answer.text}")
        return answer.json()
