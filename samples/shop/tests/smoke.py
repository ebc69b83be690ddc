"""Against the colour that is about to go live: it takes an order, and says the run it should be."""

import json
import os
import urllib.request

URL = os.environ["PREVIEW_URL"].rstrip("/")
order = json.dumps({"item": "tea", "quantity": 1, "token": f"smoke-{os.environ['PIPE_RUN']}"}).encode()
request = urllib.request.Request(f"{URL}/orders", order, {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=10) as response:
    assert json.load(response)["cents"] == 450
with urllib.request.urlopen(f"{URL}/", timeout=10) as response:
    answer = json.load(response)
assert answer["run"] == os.environ["PIPE_RUN"], answer
print(f"{URL} takes orders as run {answer['run']}, {answer['colour']}")
