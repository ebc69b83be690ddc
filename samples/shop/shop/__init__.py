"""A small shop: a web process takes orders, a worker packs them, PostgreSQL remembers them."""
