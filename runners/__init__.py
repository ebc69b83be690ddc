"""The hands: take a job under a lease, cause effects in containers, registries and routers, report.

Runners never speak HTTP to people and never import `webhooks`; the two rooms
meet only in the database.
"""
