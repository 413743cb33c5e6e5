"""Write api_names.json: the public names of TensorRT classes, and the versions that have them.

    python tests/engines/make_api_names.py FOLDER    # FOLDER/VERSION.json maps classes to names, one file per version

The names of TensorRT-RTX are read from the installed library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENUMERATIONS = (
    "BuilderFlag", "ComputeCapability", "DeviceType", "LayerInformationFormat", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParserFlag", "ProfilingVerbosity", "TacticSource", "DataType", "TensorIOMode",
    "ExecutionContextAllocationStrategy", "DynamicShapesKernelSpecializationStrategy",
)  # fmt: skip
BASES = ("IProgressMonitor", "IExecutionContext", "IRuntimeCache", "Dims", "ITensor")


def classes() -> list[str]:
    """Return the classes in engines/library/names.py, and the enumerations and base classes that the code uses."""
    lines = (HERE.parents[1] / "engines" / "library" / "names.py").read_text().splitlines()
    named = [line.split(":")[0] for line in lines if ": TypeAlias" in line]
    return sorted({*named, *ENUMERATIONS, *BASES} - {"Trt"})


def rtx_names() -> tuple[str, dict[str, list[str]]]:
    """Return the version and the names of the installed TensorRT-RTX."""
    import tensorrt_rtx

    found = {n: dir(getattr(tensorrt_rtx, n)) for n in dir(tensorrt_rtx) if isinstance(getattr(tensorrt_rtx, n), type)}
    return f"rtx {tensorrt_rtx.__version__}", {n: [m for m in members if m[0] != "_"] for n, members in found.items()}


def main(folder: Path) -> None:
    """Write a table from class and name to the indices of the versions that have it."""
    versions = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    name, names = rtx_names()
    versions = dict(sorted(versions.items(), key=lambda item: [int(n) for n in item[0].split(".")])) | {name: names}
    table: dict[str, dict[str, list[int]]] = {}
    for position, known in enumerate(versions.values()):
        for kind in classes():
            table.setdefault(kind, {})
            for member in ["", *known[kind]] if kind in known else []:
                table[kind].setdefault(member, []).append(position)
    lines = ",\n".join(f" {json.dumps(kind)}: {json.dumps(table[kind], sort_keys=True)}" for kind in sorted(table))
    text = f'{{"versions": {json.dumps(list(versions))},\n"classes": {{\n{lines}\n}}}}\n'
    json.loads(text)
    (HERE / "api_names.json").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
