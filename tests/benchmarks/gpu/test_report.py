"""Figures beside their targets."""

from __future__ import annotations

import pytest


def chain(p50, **more):
    one = {"wall_ms": {"p50": p50}, "p99_over_p50": 1.1, "overhead_share": 0.04}
    return {"status": "ok", "data": {"fp16": {"batch 1": one | more, "batch 16": {"share_of_matrix_rate": 0.31}}}}


def found(script, parts):
    return {figure.name: figure for figure in script("report").figures(parts)}


def test_nothing_measured_is_never_met_or_missed(script):
    figures = found(script, {})
    assert {(f.value, f.met) for f in figures.values()} == {(None, None)}
    assert len([f for f in figures.values() if f.target]) >= 20


def test_a_chain_is_held_against_its_targets_and_the_reference(script):
    parts = {"torch": chain(2.4), "reference_times": {"data": {"batch 1": {"wall_ms": {"p50": 12.0}}}}}
    figures = found(script, parts)
    assert [figures[f"torch: {name}"].met for name in ("p50, batch 1", "p99 over p50", "host overhead")] == [True] * 3
    assert figures["torch: matrix rate, batch 16"].met
    assert (figures["torch: faster than the reference"].text, figures["torch: faster than the reference"].met) == (
        "5.0 x", False,
    )  # fmt: skip
    assert figures["tensorrt: p50, batch 1"].value is None


def test_the_largest_frame_is_told_with_its_size(script):
    measured = chain(2.4)
    measured["data"]["fp16"]["batch 1, largest frame"] = {"wall_ms": {"p50": 2.9}, "frame": [1080, 1920, 3]}
    assert found(script, {"torch": measured})["torch: p50, largest frame"].text == "2.90 ms, 1920 x 1080"


@pytest.mark.parametrize(("share", "met"), [(0.84, False), (0.86, True)])
def test_the_noising_kernel_is_held_against_the_copy(script, share, met):
    timed = {"noise from a bank, float16 to float16, batch 4096": {"share_of_copy": share}}
    figure = found(script, {"kernel_times": {"data": timed}})["noising, bank, batch 4096, float16 to float16"]
    assert (figure.met, figure.text) == (met, f"{100 * share:.1f} %")


def test_one_wrong_kernel_is_enough_to_miss(script):
    compared = {name: {"cases": 60, "wrong": wrong} for name, wrong in (("normals", []), ("preprocess", ["case 3"]))}
    figure = found(script, {"kernels": {"data": compared}})["kernels as their CPU twins"]
    assert (figure.met, figure.text) == (False, "1 of 120 wrong")


def test_a_number_that_is_none_is_not_measured(script):
    assert found(script, {"torch": chain(2.4, p99_over_p50="nan")})["torch: p99 over p50"].value is None


def test_the_table_names_parts_that_failed_and_a_rehearsal_shows_no_figure(script):
    parts = {"torch": chain(2.4), "tensorrt": {"status": "failed", "why": "it broke", "seconds": 3.0}}
    report = script("report").report
    real, rehearsed = (report({"device": "A GPU", "rehearsal": r, "parts": parts}) for r in (False, True))
    for text in (real, rehearsed):
        assert "tensorrt  failed   3.0      it broke" in text
    assert "at most 2.5 ms" in real
    assert "2.5 ms" not in rehearsed
