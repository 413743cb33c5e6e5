"""What the compiler made of the CUDA kernels: registers, spills, and the widths of their loads and stores.

    python benchmarks/gpu/compile_report.py [--arch 7.5,9.0] [--nvdisasm FILE] [--json FILE]

Compiles runtime/native/*.cu for each compute capability, with warnings as errors, and reads the report of
`-Xptxas -v`. Widths are counted in the disassembly, where nvdisasm is found (CUDA toolkit, or the package
nvidia-cuda-nvdisasm). Exit code 1: a warning, a spill, a stack frame, or, in a noising kernel for whole units, an
access to device memory narrower than 16 bytes (8 where float16 latents are read for float32 results).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from leakrt.cli.console import table

NATIVE = Path(__file__).resolve().parents[2] / "runtime" / "native"
SOURCES = ("noise.cu", "preprocess.cu", "density.cu")
FLAGS = ["-O3", "-std=c++17", "--fmad=false", "--Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas"]
_LISTED = ("72", "75", "86", "87", "89", "90", "100", "110", "120")  # as in cuda_toolkit.cmake
_USED = re.compile(r"Compiling entry function '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
                   r"(\d+) bytes spill loads.*?Used (\d+) registers", re.DOTALL)  # fmt: skip
_ACCESS = re.compile(r"\b(LDG|STG|LDL|STL)((?:\.[A-Z0-9_]+)*)")
_WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(frozen=True)
class Kernel:
    """One kernel for one compute capability."""

    capability: str
    name: str
    registers: int
    stack: int  # bytes of a thread
    spills: int  # bytes stored and loaded
    accesses: dict[str, int] = field(default_factory=dict)  # "load 16": how often in the code; empty: not known

    @property
    def wanting(self) -> str:
        """What is wrong with it; empty: nothing."""
        if self.spills or self.stack:
            return f"{self.spills} bytes of spills, {self.stack} bytes of stack"
        narrow = [access for access in self.accesses if not access.endswith(" 16") and access != "load 4"]
        whole = self.name.startswith("noise") and "whole" in self.name
        # Fresh noise reads one 4-byte sample index; four float16 latents for four float32 results are 8 bytes.
        if "float16 -> float32" in self.name:
            narrow = [access for access in narrow if access != "load 8"]
        if whole and (narrow or ("load 4" in self.accesses and "fresh" not in self.name)):
            return f"accesses of other than 16 bytes: {', '.join(self.accesses)}"
        return ""


def main() -> int:
    """Compile, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="", help="compute capabilities; all of LeakRT's that nvcc knows when empty")
    parser.add_argument("--nvdisasm", default="", help="path of nvdisasm")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        print("no nvcc here: put a CUDA toolkit's bin folder on PATH", file=sys.stderr)
        return 1
    disassembler = find_nvdisasm(args.nvdisasm, nvcc)
    wanted = [a.replace(".", "") for a in args.arch.split(",") if a] or known(nvcc)
    kernels: list[Kernel] = []
    begin = time.monotonic()
    for capability in wanted:
        for source in SOURCES:
            kernels += compile_one(nvcc, disassembler, capability, source)
    seconds = time.monotonic() - begin
    print(report(kernels, disassembler))
    print(f"{len(kernels)} kernels for {len(wanted)} compute capabilities without a warning, {seconds:.0f} s")
    if args.json:
        body = {"nvcc": version(nvcc), "seconds": round(seconds, 1), "kernels": [asdict(k) for k in kernels]}
        args.json.write_text(json.dumps(body, indent=1) + "\n")
    bad = [k for k in kernels if k.wanting]
    for kernel in bad:
        print(f"{kernel.capability} {kernel.name}: {kernel.wanting}", file=sys.stderr)
    return 1 if bad else 0


def compile_one(nvcc: str, disassembler: str, capability: str, source: str) -> list[Kernel]:
    """The kernels of one source. Exits with the compiler's message when it warns or fails."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = [nvcc, *FLAGS, f"-arch=sm_{capability}", "-Xptxas=-v", "-cubin", "-o", str(cubin), source]
        run = subprocess.run(command, cwd=NATIVE, capture_output=True, text=True)
        text = run.stdout + run.stderr
        if run.returncode or re.search(r"\bwarning\b", text):
            sys.exit(text)
        widths = accesses(disassembler, cubin) if disassembler else {}
    dotted = f"{capability[:-1]}.{capability[-1]}"
    return [
        Kernel(dotted, readable(symbol), int(registers), int(stack), int(stores) + int(loads), widths.get(symbol, {}))
        for symbol, stack, stores, loads, registers in _USED.findall(text)
    ]


def accesses(disassembler: str, cubin: Path) -> dict[str, dict[str, int]]:
    """Symbol to how often its code has each access to device and local memory."""
    text = subprocess.run([disassembler, "-c", str(cubin)], check=True, capture_output=True, text=True).stdout
    parts = re.split(r"//-+ \.text\.(\S+)", text)
    return {symbol: count(body) for symbol, body in zip(parts[1::2], parts[2::2], strict=True)}


def count(body: str) -> dict[str, int]:
    """ "load 16": 4 and the like; local memory is "spilled load 4"."""
    found: Counter[str] = Counter()
    for kind, suffixes in _ACCESS.findall(body):
        width = next((_WIDTHS[s] for s in suffixes.split(".") if s in _WIDTHS), 4)
        place = "spilled " if kind.endswith("L") else ""
        found[f"{place}{'load' if kind.startswith('LD') else 'store'} {width}"] += 1
    return dict(sorted(found.items()))


def readable(symbol: str) -> str:
    """A kernel's name for people: "noise bank float32 -> float16, whole units"."""
    types = {"f": "float32", "N6leakrt4HalfE": "float16", "NS_4HalfE": "float16", "S2_": "float16", "S3_": "float16"}
    noise = re.search(r"NoiseKernelI(f|NS_4HalfE)(f|NS_4HalfE|S\d*_)Lb([01])ELb([01])E", symbol)
    if noise:
        z, u, fresh, whole = noise.groups()
        kind, units = ("bank", "fresh")[int(fresh)], ("any", "whole")[int(whole)]
        return f"noise {kind} {types[z]} -> {types.get(u, 'float16')}, {units} units"
    known_names = {
        "NormalsKernel": "normals",
        "DensityMergeKernel": "log-density, merge",
        "DensityKernel": "log-density",
    }
    for part, name in known_names.items():
        if part in symbol:
            return name
    return f"preprocess to {'float32' if 'PreprocessKernelIf' in symbol else 'float16'}"


def report(kernels: list[Kernel], disassembler: str) -> str:
    """A table of kernels and what each needs, over all compute capabilities."""
    rows: list[tuple[str, ...]] = [
        ("kernel", "registers", "spills", "accesses in the code of " + kernels[-1].capability)
    ]
    for name in dict.fromkeys(k.name for k in kernels):
        same = [k for k in kernels if k.name == name]
        registers = sorted({k.registers for k in same})
        spread = f"{registers[0]} to {registers[-1]}" if len(registers) > 1 else str(registers[0])
        widths = ", ".join(f"{n} x {access}" for access, n in same[-1].accesses.items())
        rows.append((name, spread, str(sum(k.spills for k in same)), widths or "no nvdisasm here"))
    return table(rows, indent="")


def known(nvcc: str) -> list[str]:
    """LeakRT's compute capabilities that this nvcc has."""
    text = subprocess.run([nvcc, "--list-gpu-arch"], check=True, capture_output=True, text=True).stdout
    return [number for number in _LISTED if f"compute_{number}\n" in text]


def version(nvcc: str) -> str:
    """Such as 13.0.88."""
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", text)
    return found.group(1) if found else "unknown"


def find_nvdisasm(named: str, nvcc: str) -> str:
    """nvdisasm as named, beside nvcc, on PATH or from its package; empty where there is none."""
    packaged = Path(sys.prefix).glob("lib/python*/site-packages/nvidia/*/bin/nvdisasm")
    for candidate in (named, str(Path(nvcc).resolve().with_name("nvdisasm")), "nvdisasm", *map(str, packaged)):
        found = shutil.which(candidate) if candidate else None
        if found:
            return found
    return ""


if __name__ == "__main__":
    sys.exit(main())
