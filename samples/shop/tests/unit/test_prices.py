"""What things cost."""

import pytest

from shop.prices import total_cents


@pytest.mark.parametrize(
    ("item", "quantity", "cents"),
    [("tea", 1, 450), ("tea", 4, 1800), ("tea", 5, 2138), ("cup", 20, 22500), ("kettle", 1, 3900)],
)
def test_more_pieces_cost_less_each(item, quantity, cents):
    assert total_cents(item, quantity) == cents


@pytest.mark.parametrize("quantity", [0, -1, 101])
def test_odd_quantities_are_refused(quantity):
    with pytest.raises(ValueError, match="between 1 and 100"):
        total_cents("tea", quantity)


def test_what_is_not_sold_is_refused():
    with pytest.raises(ValueError, match="we do not sell 'coffee'"):
        total_cents("coffee", 1)
