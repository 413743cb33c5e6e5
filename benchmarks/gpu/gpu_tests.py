"""`pytest -m gpu` over the test files that have such tests: others may need packages that are not here."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from part import Part

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run and count."""
    part = Part(__doc__)
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    part.set("files", [str(path.relative_to(ROOT)) for path in files])
    report = part.work / "gpu_tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--durations=5"]
    command += ["--tb=short", f"--junitxml={report}", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT)
    part.set("exit", done.returncode)
    if not report.exists():
        part.fail("pytest left no report")
        part.end()
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    told: dict[str, list[str]] = {"failure": [], "error": [], "skipped": []}
    for case in cases:
        for kind, found in told.items():
            problem = case.find(kind)
            if problem is not None:
                found.append(f"{case.get('classname')}.{case.get('name')}: {problem.get('message', '')}"[:300])
    part.set("tests", len(cases))
    part.set("passed", len(cases) - sum(map(len, told.values())))
    part.set("skipped tests", told["skipped"])
    for problem in told["failure"] + told["error"]:
        part.fail(problem)
    if not cases or len(told["skipped"]) == len(cases):
        part.skip(f"all {len(cases)} tests were skipped: {told['skipped'][0] if told['skipped'] else 'none was found'}")
    part.end()


if __name__ == "__main__":
    main()
