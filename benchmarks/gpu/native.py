"""Builds LeakRT for this machine's GPU alone, out of the tree and without a network, into WORK/site.

Wheels from a folder, such as PyCUDA's, are put beside it. Where the CUDA kernels can't be built, LeakRT is built
without them and that is a failure: the parts that need no kernels still run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from part import Part, gpu_state

ROOT = Path(__file__).resolve().parents[2]
_REHEARSED = "9.0"
Done = subprocess.CompletedProcess[str]


def main() -> None:
    """Build unless what is there is the same; install wheels; import."""
    part = Part(__doc__, lambda parser: parser.add_argument("--wheels", type=Path, help="folder of wheels to install"))
    site = part.work / "site"
    site.mkdir(parents=True, exist_ok=True)
    wheels(part, site)
    stamp = part.work / "native.stamp"
    wanted = _fingerprint(part.rehearse)
    if stamp.exists() and stamp.read_text() == wanted and (site / "leakrt").exists():
        part.set("built", "before; nothing has changed")
    elif build(part, site):
        stamp.write_text(wanted)
    part.set("imports", _imports(part, site))
    part.end()


def wheels(part: Part, site: Path) -> None:
    """Install what was carried, by name and without asking anyone."""
    folder: Path | None = part.options.wheels
    found = sorted(folder.glob("*.whl")) if folder else []
    if found:
        done = _pip("install", "--no-deps", "--upgrade", "--target", str(site), *map(str, found))
        part.set("wheels", [wheel.name for wheel in found])
        if done.returncode:
            part.fail(f"installing wheels: {_tail(done)}")


def build(part: Part, site: Path) -> bool:
    """For the GPU that is here, as CMake finds it, else by its number; by pip, else by CMake alone; at last without
    CUDA. Whether it has its kernels."""
    capability = gpu_state(("compute_cap",)).get("compute_cap", "")
    wanted = [_REHEARSED] if part.rehearse else ["native", capability] if capability else []
    tries = [(by, {"CUDA": "ON", "CUDA_ARCHITECTURES": a}) for a in wanted for by in (_by_pip, _by_cmake)]
    for by, settings in [*tries, (_by_pip, {"CUDA": "OFF"})]:
        begin = time.perf_counter()
        shutil.rmtree(site / "leakrt", ignore_errors=True)
        done = by(part.work, site, settings)
        what = f"{by.__name__[1:].replace('_', ' ')}, CUDA {settings.get('CUDA_ARCHITECTURES', 'off')}"
        part.set(what, {"seconds": time.perf_counter() - begin, "exit": done.returncode})
        if done.returncode == 0:
            if settings["CUDA"] == "OFF":
                why = "" if wanted else "; nvidia-smi names no GPU to build them for"
                part.fail(f"LeakRT was built without its CUDA kernels{why}")
            return settings["CUDA"] == "ON"
        part.fail(f"{what}: {_tail(done)}")
    return False


def _by_pip(work: Path, site: Path, settings: Mapping[str, str]) -> Done:
    for old in site.glob("leakrt-*.dist-info"):
        shutil.rmtree(old)
    environment = {
        "CMAKE_ARGS": " ".join(_defines(settings)),
        "SKBUILD_BUILD_DIR": str(work / "build" / f"pip-{'-'.join(settings.values())}"),
    }
    target = ("--target", str(site), "--upgrade", str(ROOT))
    return _pip("install", "--no-deps", "--no-build-isolation", *target, environment=environment)


def _by_cmake(work: Path, site: Path, settings: Mapping[str, str]) -> Done:
    """Without scikit-build-core, which may be too old: CMake, and the folders as pyproject.toml maps them."""
    folder = work / "build" / f"cmake-{'-'.join(settings.values())}"
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), f"-DPython_EXECUTABLE={sys.executable}", "-G", "Ninja"]
    steps = (
        [*configure, "-DCMAKE_BUILD_TYPE=Release", *_defines(settings)],
        ["cmake", "--build", str(folder)],
        ["cmake", "--install", str(folder), "--prefix", str(site)],
    )
    for command in steps:
        done = _done(command, {})
        if done.returncode:
            return done
    packages = (ROOT / "pyproject.toml").read_text().split("[tool.scikit-build.wheel.packages]")[1].split("\n[")[0]
    for name, source in re.findall(r'^"(.+)" = "(.+)"$', packages, re.MULTILINE):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, site / name, ignore=shutil.ignore_patterns("native", "__pycache__"))
        else:
            shutil.copy(ROOT / source, site / name)
    return done


def _defines(settings: Mapping[str, str]) -> list[str]:
    return [f"-DLEAKRT_{name}={value}" for name, value in settings.items()]


def _pip(*arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> Done:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", arguments[0], "--no-index", *arguments[1:]]
    return _done(command, environment)


def _done(command: Sequence[str], environment: Mapping[str, str]) -> Done:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/local/cuda/bin"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": tools, **environment})
    print(done.stdout[-2000:], done.stderr[-6000:], flush=True)
    return done


def _tail(done: Done) -> str:
    """The lines that say error, else the last."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return " | ".join((errors or lines)[:4])[:800]


def _fingerprint(rehearse: bool) -> str:
    """Of everything that the build reads, and of the Python and the GPU that it is for."""
    digest = hashlib.sha256(f"{sys.version} {gpu_state(('compute_cap',))} {rehearse}".encode())
    sources = [ROOT / name for name in ("CMakeLists.txt", "pyproject.toml", "__init__.py", "__main__.py")]
    for folder in (path.parent for path in ROOT.glob("*/__init__.py")):
        sources += [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in sorted(sources):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def _imports(part: Part, site: Path) -> dict[str, str]:
    """Where LeakRT comes from in the parts to come, and what of it loads."""
    script = (
        "import json, leakrt\nfound = {'leakrt': leakrt.__file__}\n"
        "for name in ('_core', '_grid', '_cuda'):\n"
        "    try:\n        __import__('leakrt.' + name); found[name] = 'loads'\n"
        "    except Exception as error: found[name] = str(error)\n"
        "try:\n    from leakrt import _cuda; found['architectures'] = _cuda.architectures()\n"
        "    found['driver'] = str(_cuda.driver_version()); found['toolkit'] = str(_cuda.toolkit_version())\n"
        "except ImportError: pass\n"
        "print(json.dumps(found))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd="/")
    if done.returncode:
        part.fail(f"importing LeakRT: {_tail(done)}")
        return {}
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    if not found["leakrt"].startswith(str(site)):
        part.fail(f"the LeakRT in {found['leakrt']} hides the one built here; take a Python without it")
    found["leakrt"] = (
        str(Path(found["leakrt"]).relative_to(site)) if found["leakrt"].startswith(str(site)) else "another"
    )
    for name in ("_core", "_grid", "_cuda"):
        if found[name] != "loads":
            part.fail(f"leakrt.{name} does not load: {found[name]}")
    return found


if __name__ == "__main__":
    main()
