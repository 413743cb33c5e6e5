"""An evaluation's figures, for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from leakrt.cli.evaluation_text import evaluation_text
from leakrt.train.evaluation import ClosedMetrics, DecisionMetrics, Evaluation, OpenMetrics

CLOSED = ClosedMetrics(
    images=30,
    macro_auc=0.96784,
    per_class_auc={"real": 0.991, "one\x1b[2Jtwo": 0.95},
    recall={"real": 0.9, "one\x1b[2Jtwo": 0.75},
    top1=0.8,
    balanced_accuracy=0.7556,
    confusion=((9, 1), (5, 15)),
    ece=0.0312,
    verdicts={"real": 11, "generator": 14, "abstain": 5},
)
DECISION = DecisionMetrics(
    false_alarm_rate=0.1, false_alarm_target=0.05, false_alarm_count=1, real_faces=10, interval=(0, 3),
    inside_interval=True, coverage=0.8333, coverage_real=0.9, generated_called_generated=0.7,
    generated_called_real=0.05,
)  # fmt: skip
OPEN = OpenMetrics(
    images=7, auroc=0.78, fpr95=0.6, oscr=0.7, auroc_density=0.59, fpr95_density=0.8, auroc_real=0.83,
    called_generated=0.714, called_real=0.143, verdicts={"generator": 5, "real": 1, "abstain": 1},
)  # fmt: skip


def lines(evaluation) -> dict[str, str]:
    """The first word group of each line to what follows it."""
    text = evaluation_text(evaluation)
    return {line.strip().split("  ")[0]: line for line in text.splitlines() if line.strip()}


def test_every_figure_is_reported_with_its_name():
    found = lines(Evaluation(closed=CLOSED, decision=DECISION, open=OPEN, failed=0))
    for name, figure in (
        ("macro AUC", "0.9678"),
        ("balanced accuracy", "0.7556"),
        ("calibration error", "0.0312"),
        ("verdicts", "11 real, 14 generator, 5 abstain"),
        ("false alarms", "1 of 10 real faces, 10.0 %"),
        ("coverage", "83.3 % of all, 90.0 % of real faces"),
        ("generated faces", "70.0 % classified as generated, 5.0 % as real"),
        ("AUROC", "0.7800 by probability, 0.5900 by log-density"),
        ("classified as", "generated 71.4 %, real 14.3 %"),
    ):
        assert figure in found[name]


def test_the_interval_is_reported_and_whether_the_count_lies_in_it():
    text = evaluation_text(Evaluation(closed=CLOSED, decision=DECISION, open=None, failed=0))
    assert "target 5.0 %; inside its 95 % interval, 0 to 3" in text
    outside = replace(DECISION, false_alarm_count=4, inside_interval=False)
    assert "OUTSIDE its 95 % interval, 0 to 3" in evaluation_text(
        Evaluation(closed=CLOSED, decision=outside, open=None, failed=0)
    )


def test_without_an_open_set_there_is_no_such_section():
    assert "open set" in evaluation_text(Evaluation(closed=CLOSED, decision=DECISION, open=OPEN, failed=0))
    assert "open set" not in evaluation_text(Evaluation(closed=CLOSED, decision=DECISION, open=None, failed=0))


def test_each_class_has_its_recall_and_what_it_is_taken_for():
    text = evaluation_text(Evaluation(closed=CLOSED, decision=DECISION, open=None, failed=0))
    real, other = text.splitlines()[-2:]
    assert real.split() == ["real", "0.9910", "0.900", "one\ufffd[2Jtwo", "(1)"]
    assert other.split()[1:] == ["0.9500", "0.750", "real", "(5)"]
    assert "\x1b" not in text  # names of classes come from outside


def test_a_class_that_is_never_mistaken_is_taken_for_nothing():
    whole = replace(CLOSED, confusion=((10, 0), (0, 20)), recall=dict.fromkeys(CLOSED.recall, 1.0))
    assert evaluation_text(Evaluation(closed=whole, decision=DECISION, open=None, failed=0)).splitlines()[-1].split()[
        1:
    ] == ["0.9500", "1.000"]


def test_figures_that_were_not_measured_say_so_with_the_reason():
    closed = replace(CLOSED, macro_auc=None, balanced_accuracy=None, per_class_auc={"real": None, "gan": None})
    closed = replace(closed, recall={"real": 0.9, "gan": None}, confusion=((9, 1), (0, 0)))
    decision = replace(DECISION, generated_called_generated=None, generated_called_real=None)
    text = evaluation_text(Evaluation(closed=closed, decision=decision, open=None, failed=0, missing=("gan",)))
    assert text.endswith("not measured: no image of gan was classified")
    assert [line.split()[0] for line in text.splitlines() if line.endswith("not measured")] == [
        "macro", "balanced", "generated", "gan",
    ]  # fmt: skip
    faceless = replace(DECISION, real_faces=0, false_alarm_rate=None, interval=None, inside_interval=None)
    assert "not measured: no real face was classified" in evaluation_text(
        Evaluation(closed=closed, decision=faceless, open=None, failed=0, missing=("real",))
    )
