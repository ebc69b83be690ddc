"""Secrets in memory lie where nobody but their user can read."""

from __future__ import annotations

import pytest

from pipeline.errors import Unavailable
from runners.targets.secret_files import SecretFiles


def test_a_secret_is_a_file_in_a_folder_closed_to_others(tmp_path):
    folder = SecretFiles("0123456789", tmp_path).put("shop.test", "blue.1.web", {"KEY": "v"})
    assert (folder / "KEY").read_text() == "v"
    (top,) = tmp_path.iterdir()
    assert top.stat().st_mode & 0o077 == 0


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path):
    SecretFiles("0123456789", tmp_path).put("shop.test", "blue.1.web", {})
    (top,) = tmp_path.iterdir()
    elsewhere = tmp_path / "elsewhere"
    top.rename(elsewhere)
    top.symlink_to(elsewhere)
    with pytest.raises(Unavailable, match="not a folder of this user's alone"):
        SecretFiles("0123456789", tmp_path).put("shop.test", "blue.2.web", {"KEY": "v"})
    assert not (elsewhere / "01234567/shop.test/blue.2.web").exists()


def test_a_folder_that_others_may_read_is_refused(tmp_path):
    SecretFiles("0123456789", tmp_path).put("shop.test", "blue.1.web", {})
    (top,) = tmp_path.iterdir()
    top.chmod(0o755)
    with pytest.raises(Unavailable, match="not a folder of this user's alone"):
        SecretFiles("0123456789", tmp_path).put("shop.test", "blue.2.web", {"KEY": "v"})
