"""How orders are packed."""

import pytest

from shop.parcels import parcels


@pytest.mark.parametrize(
    ("item", "quantity", "count"), [("tea", 1, 1), ("tea", 41, 1), ("tea", 42, 2), ("kettle", 4, 2)]
)
def test_parcels_are_filled_before_the_next_is_begun(item, quantity, count):
    assert parcels(item, quantity) == count
