"""The table of a verification: what the parts came to, and each figure beside its target."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from part import NO_GPU

_BANK = "noise from a bank, float16 to float16, batch"
_CHAINS = {"torch": (2.5, 0.30), "tensorrt": (1.5, 0.40), "tensorrt_rtx": (1.5, 0.40)}  # p50 ms, share of matrix rate


@dataclass(frozen=True)
class Figure:
    """Something that was to be measured."""

    name: str
    value: float | None  # None: not yet measured
    target: str
    met: bool | None  # None: not measured, or no target
    text: str = ""  # how the value is written

    def row(self) -> tuple[str, str, str, str]:
        """For the table."""
        told = {True: "met", False: "MISSED", None: ""}[self.met]
        return self.name, self.text or "not measured", self.target, told


def report(results: dict[str, Any]) -> str:
    """What the parts came to, and but for a rehearsal, whose figures mean nothing, each figure beside its target."""
    parts = results["parts"]
    rows = [("part", "came to", "seconds", "why")]
    rows += [(n, p["status"], str(p.get("seconds", "")), p.get("why", "")[:110]) for n, p in parts.items()]
    if results.get("rehearsal"):
        return f"A rehearsal on the CPU: it shows that the parts run.\n\n{_table(rows)}"
    header = ("figure", "measured", "target", "")
    return "\n\n".join(
        [results.get("device") or NO_GPU, _table(rows), _table([header, *(f.row() for f in figures(parts))])]
    )


def figures(parts: dict[str, Any]) -> list[Figure]:
    """Every figure that has a target, in the order of the issue."""
    return [*_kernels(_data(parts, "kernels"), _data(parts, "kernel_times")), *_all_chains(parts), *_soak(parts)]


def _kernels(compared: dict[str, Any], timed: dict[str, Any]) -> Iterator[Figure]:
    checks = [entry for entry in compared.values() if isinstance(entry, dict) and "wrong" in entry]
    cases, wrong = (sum(count(c) for c in checks) for count in (lambda c: c["cases"], lambda c: len(c["wrong"])))
    yield _figure("kernels as their CPU twins", float(wrong) if checks else None, lambda v: f"{v:.0f} of {cases} wrong",
                  "none wrong", lambda v: v == 0)  # fmt: skip
    yield _figure("copy bandwidth", _at(timed, "copy", "gb_per_s"), lambda v: f"{v:.0f} GB/s", "")
    yield _figure("FP16 matrix rate", _at(timed, "fp16 tflops"), lambda v: f"{v:.0f} TFLOP/s", "")
    for types in ("float16 to float16", "float32 to float16", "float32 to float32"):
        share = _at(timed, f"noise from a bank, {types}, batch 4096", "share_of_copy")
        yield _figure(
            f"noising, bank, batch 4096, {types}", share, _percent, "at least 85 % of copy", lambda v: v >= 0.85
        )
    share = _at(timed, "fresh noise, float16 to float16, batch 4096", "share_of_arithmetic")
    yield _figure("fresh noise, of its arithmetic floor", share, _percent, "")
    for warm in ("", ", warm"):
        taken = _at(timed, f"{_BANK} 1{warm}", "us", "p50")
        yield _figure(f"one noising launch, batch 1{warm or ', cold'}", taken, lambda v: f"{v:.1f} us", "at most 6 us",
                      lambda v: v <= 6)  # fmt: skip


def _all_chains(parts: dict[str, Any]) -> Iterator[Figure]:
    slow = {b: _at(_data(parts, "reference_times"), f"batch {b}", "wall_ms", "p50") for b in (1, 16)}
    for batch, value in slow.items():
        yield _figure(f"reference, eager FP16, batch {batch}", value, _ms, "")
    for name in _CHAINS:
        yield from _chain(name, _data(parts, name), slow[1])


def _chain(name: str, data: dict[str, Any], reference: float | None) -> Iterator[Figure]:
    most, share = _CHAINS[name]
    one, many = (data.get("fp16", {}).get(f"batch {batch}", {}) for batch in (1, 16))
    p50 = _at(one, "wall_ms", "p50")
    yield _figure(f"{name}: p50, batch 1", p50, _ms, f"at most {most} ms", lambda v: v <= most)
    camera = data.get("fp16", {}).get("batch 1, largest frame", {})
    sides = " x ".join(str(side) for side in reversed(camera.get("frame", [])[:2]))
    yield _figure(f"{name}: p50, largest frame", _at(camera, "wall_ms", "p50"), lambda v: f"{_ms(v)}, {sides}", "")
    ratio = _at(one, "p99_over_p50")
    yield _figure(f"{name}: p99 over p50", ratio, lambda v: f"{v:.2f}", "at most 1.15", lambda v: v <= 1.15)
    faster = reference / p50 if reference and p50 else None
    yield _figure(
        f"{name}: faster than the reference", faster, lambda v: f"{v:.1f} x", "at least 10 x", lambda v: v >= 10
    )
    outside = _at(one, "overhead_share")
    yield _figure(f"{name}: host overhead", outside, _percent, "at most 5 %", lambda v: v <= 0.05)
    rate = _at(many, "share_of_matrix_rate")
    yield _figure(f"{name}: matrix rate, batch 16", rate, _percent, f"at least {share:.0%}", lambda v: v >= share)


def _soak(parts: dict[str, Any]) -> Iterator[Figure]:
    data = _data(parts, "soak")
    for kind in ("host", "device"):
        grown = _at(data, f"{kind} grew by")
        yield _figure(f"soak, {data.get('frames', 0)} frames: {kind} memory", grown,
                      lambda v: f"{v / 2**20:+.1f} MiB", "no growth", lambda v: v <= 16 << 20)  # fmt: skip


def _figure(
    name: str,
    value: float | None,
    write: Callable[[float], str],
    target: str,
    good: Callable[[float], bool] | None = None,
) -> Figure:
    if value is None:
        return Figure(name, None, target, None)
    return Figure(name, value, target, good(value) if good else None, write(value))


def _data(parts: dict[str, Any], name: str) -> dict[str, Any]:
    found = parts.get(name, {}).get("data", {})
    return found if isinstance(found, dict) else {}


def _at(data: Any, *path: str) -> float | None:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return float(data) if isinstance(data, (int, float)) else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    print(report(json.loads(parser.parse_args().json.read_text())))
