"""Definitions for tests: a full one as the language's page shows it, small ones, and events."""

from __future__ import annotations

from typing import Any

from pipeline.loading import Loaded, loads
from pipeline.mistakes import Mistake, WrongDefinition
from pipeline.model import Event
from pipeline.plan import Plan, plan

SHA = "0123456789abcdef0123456789abcdef01234567"

FULL = """\
version: 1
name: shop
on:
  push: {branches: [main, "release/*"], paths_ignore: ["docs/**"]}
  pull_request: {}
  tag: ["v*"]
  schedule: [{cron: "0 3 * * *", timezone: UTC, branch: main}]
  manual:
    inputs: {e2e: {type: boolean, default: true}}

concurrency: {group: "${{ git.ref }}", cancel_superseded: true}
defaults: {timeout: 15m, retry: {max: 1, on: [runner_lost, image_pull]}}
env: {LEVEL: 3.10, COMMIT: "${{ git.short_sha }}"}

stages:
  runtime_image:
    build: {context: ., target: runtime, args: {GIT_SHA: "${{ git.sha }}"}, secrets: [PIP_TOKEN]}
  test_image:
    needs: []
    build: {context: ., target: test}

  lint:
    needs: []
    image: python:3.12-slim
    run: [pip install ruff, ruff check .]

  unit:
    needs: [test_image]
    image: "${{ stages.test_image.image }}"
    matrix: {shard: [1, 2, 3]}
    services:
      db:
        image: postgres:16
        env: {POSTGRES_PASSWORD: test}
        ready: {run: pg_isready -U postgres, timeout: 60s}
    cache: {key: {files: [requirements.lock]}, paths: ["~/.cache/pip"]}
    run: pytest --splits 3 --group "$SHARD" --junitxml=reports/$SHARD.xml
    reports: {junit: "reports/*.xml"}
    artifacts: {paths: [reports/], when: always, keep: 30d}

  tell:
    needs: [unit]
    when: [{status: failed}]
    image: curl:8.10.1
    run: ./tell-us.sh
    secrets: [CHAT_URL]

  push:
    needs: [runtime_image, lint, unit]
    when: [{event: push, branch: main}, {event: tag}, {event: manual, if: "inputs.e2e == true"}]
    push:
      image: "${{ stages.runtime_image.image }}"
      to: registry.example/shop
      tags: ["${{ git.short_sha }}", "${{ git.tag }}"]

  test:
    needs: [push]
    promote:
      environment: test
      verify: {image: "${{ stages.test_image.image }}", run: ./smoke.sh "$PREVIEW_URL"}

  release:
    needs: [test]
    promote: {environment: release, from: test}

app:
  processes:
    web: {image: push, command: ["gunicorn", "shop:app"], port: 8000, health: {http: /healthz}, replicas: 2}
    worker: {image: push, command: ["python", "-m", "shop.worker"], swap: stop_then_start}
  accessories:
    db: {image: postgres:16, volume: "data:/var/lib/postgresql/data", secrets: [POSTGRES_PASSWORD]}
  before: {process: web, run: ./migrate.sh}
  env: {LOG_LEVEL: info}
"""

ENVIRONMENTS = """\
applications:
  shop:
    environments:
      test:
        public: {port: 8081}
      release:
        public: {host: shop.example}
        requires: {branches: [main], from: test, verify: true}
        approval: {rules: [{role: release-manager, count: 2}], gate: before_swap}
        freeze: [{cron: "0 17 * * FRI", duration: 62h, reason: weekend}]
"""


def small(stages: str, *, top: str = "") -> str:
    """Return a definition around the text of its stages, which stand two columns in."""
    return f"version: 1\nname: small\n{top}stages:\n{stages}"


def read(stages: str, *, top: str = "") -> Loaded:
    """Read a small definition."""
    return loads(small(stages, top=top))


def mistakes(text: str) -> list[Mistake]:
    """Return what is wrong with a definition."""
    try:
        loads(text)
    except WrongDefinition as error:
        return list(error.mistakes)
    return []


def told(text: str) -> list[str]:
    """Return what is wrong with a definition as `line:column message (hint)`."""
    return [f"{m.line}:{m.column} {m.message}" + (f" ({m.hint})" if m.hint else "") for m in mistakes(text)]


def event(kind: str = "push", **more: Any) -> Event:
    """Return an event on the branch main, unless told otherwise."""
    if kind == "tag":
        more = {"tag": "v1.2", "ref": f"refs/tags/{more.get('tag', 'v1.2')}", **more}
    else:
        more = {"branch": "main", "ref": f"refs/heads/{more.get('branch', 'main')}", **more}
    return Event(kind=kind, repository="/srv/shop", sha=SHA, **more)


def planned(text: str, kind: str = "push", **more: Any) -> Plan:
    """Read a definition and expand it for an event."""
    return plan(loads(text), event(kind, **more))
