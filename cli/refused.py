"""What the verbs print about changed verdicts, and about variants that their acceptance test refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.acceptance import Comparison

KEEP_REFUSED = "Write the variant even if its acceptance test refuses it, marked; only its name selects it."


def failed_text(precision: str, *, kept: bool, asked: bool) -> str:
    """Return what became of a variant that failed; `asked`: whether --keep-refused was given."""
    if kept:
        return f"kept as refused: only --precision {precision} selects it, and its verdicts say so"
    if asked:
        return "the bundle is not changed: it has an accepted variant to lose, or the refused one can't be run"
    return "the bundle is not changed"


def changes_text(found: Comparison) -> str:
    """Return how many verdicts change, as "2 of 900 verdicts change (0.03 % to 0.80 %), 0 cross"."""
    from ..core.binomial import clopper_pearson

    changes = found.changes
    if changes is None:
        return f"verdicts agree {found.verdict_agreement:.2%}"
    low, high = clopper_pearson(changes.verdicts, found.images)
    return (
        f"{changes.verdicts} of {found.images} verdicts change ({100 * low:.2f} % to {100 * high:.2f} %), "
        f"{changes.crossings} cross"
    )
