"""How orders are packed: the heaviest that fits first."""

from __future__ import annotations

GRAMS = {"tea": 120, "cup": 350, "kettle": 1400}
PARCEL_GRAMS = 5000


def parcels(item: str, quantity: int) -> int:
    """Return how many parcels `quantity` pieces of `item` need."""
    per_parcel = PARCEL_GRAMS // GRAMS[item]
    return -(-quantity // per_parcel)
