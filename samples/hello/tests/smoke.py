"""A smoke test against the colour that is about to go live: does it answer, and as the run it should be?"""

import json
import os
import urllib.request

with urllib.request.urlopen(os.environ["PREVIEW_URL"], timeout=10) as response:
    answer = json.load(response)
assert answer["greeting"] == "Hello, world!", answer
assert answer["run"] == os.environ["PIPE_RUN"], answer
print(f"{os.environ['PREVIEW_URL']} answers as run {answer['run']}, {answer['colour']}")
