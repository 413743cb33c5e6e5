"""Where the host's time goes."""

from __future__ import annotations


def slow() -> int:
    return sum(i * i for i in range(20_000))


def quick() -> None: ...


def test_the_function_that_takes_most_stands_first_with_its_calls_for_one_call(script):
    def call() -> None:
        slow()
        quick()
        quick()

    rows = script("host_profile").profiled(call, 5)
    names = [row["function"].split()[-1] for row in rows]
    assert "slow" in names or "<genexpr>" in names[0]
    assert rows[0]["own_us"] >= rows[-1]["own_us"]
    assert next(row for row, name in zip(rows, names, strict=True) if name == "quick")["calls"] == 2


def test_a_row_names_a_file_and_no_folder(script):
    rows = script("host_profile").profiled(slow, 1)
    assert not any("/" in row["function"] for row in rows)
    assert any("test_host_profile.py:" in row["function"] for row in rows)
