"""The learning rate as a function of the step."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from leakrt.train.schedules import OneCycle


def test_the_schedule_is_torch_s_one_cycle():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=80, pct_start=0.15)
    schedule = OneCycle(2e-3, 80, 0.15)
    for step in range(80):
        group = optimizer.param_groups[0]
        assert schedule.at(step) == pytest.approx((group["lr"], group["betas"][0]), rel=1e-9)
        optimizer.step()
        if step < 79:
            reference.step()


def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing():
    schedule = OneCycle(1e-3, 100, 0.2)
    rates = [schedule.at(step)[0] for step in range(100)]
    assert rates.index(max(rates)) == 19
    assert max(rates) == pytest.approx(1e-3)
    assert rates[0] == pytest.approx(1e-3 / 25)
    assert rates[-1] == pytest.approx(1e-3 / 25e4)
    assert rates[:20] == sorted(rates[:20])
    assert rates[19:] == sorted(rates[19:], reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_run_of_a_few_steps_has_a_rate_at_each(total):
    schedule = OneCycle(1e-3, total, 0.15)
    for step in range(total):
        rate, beta = schedule.at(step)
        assert 0 < rate <= 1e-3
        assert 0.85 <= beta <= 0.95


def test_a_step_beyond_the_last_keeps_the_last_rate():
    schedule = OneCycle(1e-3, 50, 0.1)
    assert schedule.at(60) == schedule.at(49)
