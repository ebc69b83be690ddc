"""The ground: what a pipeline is, what has happened, and what may happen next.

Nothing in this room knows docker, git or flask. It holds the language
(definition, plan), the memory (database, queue, store) and the verbs that
change it (runs, promotions); its roof, the command `pipe`, wires the rooms.
"""

__version__ = "0.1.0"
