"""curl, as a person or a script without numpy calls it: JSON on standard input, a JPEG in base64.

Runs in any environment that has Pillow, for the JPEG.
"""

import base64
import io
import json
import subprocess

import PIL.Image


class Robot:
    """A process for each request."""

    def __init__(self, url):
        self.url = url

    def post(self, path, fields):
        """`curl --json @- URL`, in the older spelling."""
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]
        command += ["--header", "Content-Type: application/json", "--data-binary", "@-", self.url + path]
        done = subprocess.run(command, input=json.dumps(fields), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)

    def act(self, picture, instruction, path="/act"):
        """The whole readable reply."""
        return self.post(path, {"image": self.jpeg(picture), "instruction": instruction})

    def jpeg(self, picture):
        """Base64 text."""
        sink = io.BytesIO()
        PIL.Image.fromarray(picture).save(sink, "JPEG", quality=95)
        return base64.b64encode(sink.getvalue()).decode()

    def spoil(self, picture, instruction):
        """A frame that no server can answer: half of the picture is missing."""
        text = self.jpeg(picture)
        return self.post("/act", {"image": text[: len(text) // 8 * 4], "instruction": instruction})
