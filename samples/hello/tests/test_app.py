"""The application's own tests: what a visitor sees."""

import json
import threading
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest

import app


@pytest.fixture
def url(monkeypatch):
    monkeypatch.setenv("PIPE_RUN", "7")
    monkeypatch.setenv("PIPE_COLOUR", "blue")
    server = app.Server(("127.0.0.1", 0), app.Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("name", "expected"), [("", "Hello, world!"), ("Ana", "Hello, Ana!"), ("  Raj ", "Hello, Raj!")]
)
def test_it_greets(name, expected):
    assert app.greeting(name) == expected


def test_it_is_healthy(url):
    assert get(f"{url}/healthz") == {"status": "ok"}


def test_it_says_which_run_and_colour_answer(url):
    answer = get(f"{url}/")
    assert (answer["run"], answer["colour"]) == ("7", "blue")


def test_it_greets_over_http(url):
    assert get(f"{url}/hello/Raj")["greeting"] == "Hello, Raj!"


def test_an_unknown_page_is_not_found(url):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(f"{url}/nothing")
    assert error.value.code == HTTPStatus.NOT_FOUND
    error.value.close()
