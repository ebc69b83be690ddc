"""The doors: everything that speaks HTTP with forges and people. Never imports `runners`."""
