"""The roof: the command `pipe`. It wires the rooms, and nobody imports it.

Everything heavier than click is imported inside the function that needs it, so that a
command costs what it does and no more. What a person reads is decided here; what is
true is decided below.
"""
