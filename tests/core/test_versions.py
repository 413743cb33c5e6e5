"""Versions of what is installed."""

from __future__ import annotations

import numpy as np

from leakrt.core.versions import installed_versions


def test_what_is_installed_has_its_version_and_the_rest_is_left_out():
    found = installed_versions(("numpy", "no-such-package-of-leakrt", "pillow"))
    assert list(found) == ["numpy", "pillow"]
    assert found["numpy"] == np.__version__
