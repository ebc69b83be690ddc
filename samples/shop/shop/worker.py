"""The shop's worker: packs what was ordered. Must not run twice, so it is stopped before the next one starts."""

from __future__ import annotations

import os
import signal
import threading

from shop import db, parcels

STOP = threading.Event()


def pack_one() -> bool:
    """Pack the oldest order that is not packed yet; return whether there was one."""
    with db.connect() as connection, connection.transaction():
        row = connection.execute(
            "SELECT id, item, quantity FROM orders WHERE packed_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
        ).fetchone()
        if row is None:
            return False
        connection.execute(
            "UPDATE orders SET parcels = %s, packed_by = %s WHERE id = %s",
            (parcels.parcels(row[1], row[2]), f"run {os.environ.get('PIPE_RUN', '?')}", row[0]),
        )
    return True


def main() -> None:
    """Pack until SIGTERM; look again every second when there was nothing to do."""
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    print(f"packing for run {os.environ.get('PIPE_RUN', '?')}", flush=True)
    while not STOP.is_set():
        if not pack_one():
            STOP.wait(1.0)


if __name__ == "__main__":
    main()
