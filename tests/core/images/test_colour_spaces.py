"""Colour spaces described by numbers; test_colour.py compares the conversions with formulas."""

from __future__ import annotations

import io

import pytest
from PIL import ImageCms

from leakrt.core.errors import ImageError
from leakrt.core.images.colour_spaces import profile_of_code_points, profile_of_gamma

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)


@pytest.mark.parametrize("gamma", [0.45455, 0.45, 0.46])
def test_the_gamma_and_primaries_of_srgb_give_no_profile(gamma):
    assert profile_of_gamma(gamma, None) is None
    assert profile_of_gamma(gamma, SRGB) is None


@pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (2, 2), (1, 1), (1, 6)])
def test_the_code_points_of_srgb_give_no_profile(primaries, transfer):
    assert profile_of_code_points(primaries, transfer, "x") is None


@pytest.mark.parametrize(("primaries", "transfer"), [(12, 13), (9, 14), (5, 4), (1, 8)])
def test_other_code_points_give_a_profile_that_littlecms_reads(primaries, transfer):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_of_code_points(primaries, transfer, "x")))
    assert profile.profile.xcolor_space.strip() == "RGB"


@pytest.mark.parametrize(("primaries", "transfer"), [(3, 13), (200, 13), (1, 9), (1, 255)])
def test_unknown_code_points_give_an_empty_profile(primaries, transfer):
    assert profile_of_code_points(primaries, transfer, "x") == b""


def test_hdr_is_rejected():
    with pytest.raises(ImageError, match=r"^x: HDR pixels \(PQ\)"):
        profile_of_code_points(9, 16, "x")


@pytest.mark.parametrize("gamma", [0.0, 1e-5, 500.0])
def test_an_impossible_gamma_gives_an_empty_profile(gamma):
    assert profile_of_gamma(gamma, None) == b""


@pytest.mark.parametrize("points", [(0.0,) * 8, (0.3, 0.3) * 4, (0.3127, 0.0, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)])
def test_impossible_primaries_give_an_empty_profile(points):
    assert profile_of_gamma(1.0, points) == b""
