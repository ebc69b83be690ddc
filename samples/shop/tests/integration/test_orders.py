"""Orders against a real PostgreSQL, which the stage brings as the service `db`."""

import pytest

from shop import db, web, worker


@pytest.fixture(autouse=True)
def tables():
    db.migrate()
    with db.connect() as connection:
        connection.execute("TRUNCATE orders")


@pytest.fixture
def client():
    return web.app.test_client()


def test_an_order_is_taken_and_packed(client):
    assert client.post("/orders", json={"item": "cup", "quantity": 2, "token": "a"}).status_code == 201
    assert client.get("/orders").get_json() == {"orders": 1, "packed": 0}
    assert worker.pack_one()
    assert client.get("/orders").get_json() == {"orders": 1, "packed": 1}
    assert not worker.pack_one()


def test_the_same_order_sent_twice_is_one_order(client):
    first, second = (client.post("/orders", json={"item": "tea", "token": "b"}).get_json() for _ in range(2))
    assert first["id"] == second["id"]
    assert client.get("/orders").get_json()["orders"] == 1


def test_a_wrong_order_is_told_why(client):
    answer = client.post("/orders", json={"item": "coffee"})
    assert (answer.status_code, answer.get_json()) == (400, {"error": "we do not sell 'coffee'"})


def test_the_shop_is_healthy_with_its_database(client):
    assert client.get("/healthz").get_json() == {"status": "ok"}


def test_migrating_twice_changes_nothing():
    db.migrate()
