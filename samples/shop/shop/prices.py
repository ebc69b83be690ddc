"""What things cost, in cents. Pure arithmetic, tested without a database."""

from __future__ import annotations

PRICES = {"tea": 450, "cup": 1250, "kettle": 3900}
DISCOUNTS = ((20, 0.10), (5, 0.05))  # from so many pieces on, this much off


def total_cents(item: str, quantity: int) -> int:
    """Return what `quantity` pieces of `item` cost. Raises ValueError for what is not sold."""
    if item not in PRICES:
        raise ValueError(f"we do not sell {item!r}")
    if not 1 <= quantity <= 100:
        raise ValueError("between 1 and 100 pieces can be ordered")
    share = next((off for least, off in DISCOUNTS if quantity >= least), 0.0)
    return round(PRICES[item] * quantity * (1 - share))
