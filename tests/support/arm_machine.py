"""A 64-bit Arm processor in an emulator, with the native inner loops compiled for it: no device is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
_NATIVE = ROOT / "runtime" / "native"
_TARGET = ["-target", "aarch64-linux-musl", "-mcpu=cortex_a78", "-std=c++17", "-O3"]
_OPTIONS = [
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-DLEAKRT_SIMD_LEVEL=baseline",
]
_BARE = ["-fno-builtin", "-fno-exceptions", "-fno-rtti", "-fno-stack-protector"]  # nothing to link with is there
_STACK, _STACK_SIZE = 0x7000_0000, 1 << 20
_HEAP, _HEAP_SIZE = 0x4000_0000, 64 << 20
_RETURN = 0x6000_0000  # a page of its own: execution ends where it is reached
_POISON = 0xA5


def compile_for_arm(folder: Path) -> Path:
    """The inner loops and `aarch64.cpp` as one static ELF file, by the Clang of the `ziglang` wheel."""
    objects = []
    for source in (_NATIVE / "kernels.cpp", ROOT / "tests" / "runtime" / "native" / "aarch64.cpp"):
        objects.append(str(folder / f"{source.stem}.o"))
        _zig("c++", *_TARGET, *_OPTIONS, *_BARE, f"-I{_NATIVE}", "-c", str(source), "-o", objects[-1])
    program = folder / "kernels.elf"
    _zig("ld.lld", "-static", "-e", "normals", *objects, "-o", str(program))
    return program


def _zig(*arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", "ziglang", *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


class ArmMachine:
    """Calls functions of an ELF file. Arrays are copied in, and copied back after the call, ends checked."""

    def __init__(self, program: Path) -> None:
        from elftools.elf.elffile import ELFFile
        from unicorn import UC_ARCH_ARM64, UC_MODE_ARM, Uc
        from unicorn.arm64_const import UC_ARM64_REG_CPACR_EL1, UC_CPU_ARM64_MAX

        self._machine = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self._machine.ctl_set_cpu_model(UC_CPU_ARM64_MAX)  # a Cortex-A78 has half floats, the default has not
        self._machine.reg_write(UC_ARM64_REG_CPACR_EL1, 3 << 20)  # let the vector unit be used
        for start, size in ((_STACK, _STACK_SIZE), (_HEAP, _HEAP_SIZE), (_RETURN, 1 << 12)):
            self._machine.mem_map(start, size)
        with program.open("rb") as file:
            elf = ELFFile(file)
            self._load([s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"])
            symbols = elf.get_section_by_name(".symtab").iter_symbols()
            self._functions = {s.name: s["st_value"] for s in symbols if s["st_info"]["type"] == "STT_FUNC"}

    def call(self, name: str, *arguments: int | np.ndarray) -> None:
        """At most eight arguments: integers, and contiguous arrays, which are changed in place."""
        from unicorn import arm64_const as registers

        top, placed = _HEAP, []
        for number, value in enumerate(arguments):
            if isinstance(value, np.ndarray):
                guard = bytes([_POISON]) * 64
                self._machine.mem_write(top, guard + value.tobytes() + guard)
                placed.append((top + 64, value))
                top += -(-(value.nbytes + 128) // 64) * 64
                value = placed[-1][0]
            self._machine.reg_write(getattr(registers, f"UC_ARM64_REG_X{number}"), value)
        self._machine.reg_write(registers.UC_ARM64_REG_SP, _STACK + _STACK_SIZE - 64)
        self._machine.reg_write(registers.UC_ARM64_REG_LR, _RETURN)
        self._machine.emu_start(self._functions[name], _RETURN)
        for address, array in placed:
            self._check_guards(address, array.nbytes)
            result = np.frombuffer(bytes(self._machine.mem_read(address, array.nbytes)), array.dtype)
            array[...] = result.reshape(array.shape)

    def _load(self, segments) -> None:
        pages: set[int] = set()
        for segment in segments:
            begin, end = segment["p_vaddr"], segment["p_vaddr"] + segment["p_memsz"]
            pages.update(range(begin >> 12, -(-end >> 12)))
        for page in pages:
            self._machine.mem_map(page << 12, 1 << 12)
        for segment in segments:
            self._machine.mem_write(segment["p_vaddr"], segment.data())

    def _check_guards(self, address: int, size: int) -> None:
        for begin in (address - 64, address + size):
            assert set(self._machine.mem_read(begin, 64)) == {_POISON}, "written beside the array"
