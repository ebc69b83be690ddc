"""The shop's web process."""

from __future__ import annotations

import os

import psycopg
from flask import Flask, Response, jsonify, request

from shop import db, prices

app = Flask(__name__)


@app.get("/healthz")
def health() -> tuple[Response, int]:
    """Say whether orders can be taken."""
    try:
        with db.connect() as connection:
            connection.execute("SELECT 1 FROM orders LIMIT 1")
    except psycopg.Error as error:
        return jsonify(status="no database", detail=str(error)), 503
    return jsonify(status="ok"), 200


@app.get("/")
def front() -> Response:
    """Say who answers, and what is for sale."""
    who = {key.lower(): os.environ.get(f"PIPE_{key}", "") for key in ("RUN", "COMMIT", "COLOUR", "ENVIRONMENT")}
    return jsonify(shop="Tea & Cups", prices=prices.PRICES, **who)


@app.post("/orders")
def order() -> tuple[Response, int]:
    """Take an order; the same token twice is the same order."""
    wish = request.get_json(silent=True)
    if not isinstance(wish, dict):
        return jsonify(error="send an order as JSON: item, quantity, token"), 400
    try:
        item, quantity = str(wish.get("item")), int(wish.get("quantity", 1))
        cents = prices.total_cents(item, quantity)
    except (TypeError, ValueError) as error:
        return jsonify(error=str(error)), 400
    with db.connect() as connection:
        row = connection.execute(
            """INSERT INTO orders (item, quantity, cents, token) VALUES (%s, %s, %s, %s)
               ON CONFLICT (token) DO UPDATE SET token = excluded.token RETURNING id, cents""",
            (item, quantity, cents, wish.get("token")),
        ).fetchone()
    assert row is not None
    return jsonify(id=row[0], cents=row[1]), 201


@app.get("/orders")
def orders() -> Response:
    """Say how many orders there are, and how many are packed."""
    with db.connect() as connection:
        row = connection.execute("SELECT count(*), count(packed_by) FROM orders").fetchone()
    assert row is not None
    return jsonify(orders=row[0], packed=row[1])
