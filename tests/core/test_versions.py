"""Versions of installed packages."""

from __future__ import annotations

import numpy as np

from leakrt.core.versions import installed_versions


def test_installed_packages_have_a_version_and_others_are_omitted():
    found = installed_versions(("numpy", "no-such-package-of-leakrt", "pillow"))
    assert list(found) == ["numpy", "pillow"]
    assert found["numpy"] == np.__version__
