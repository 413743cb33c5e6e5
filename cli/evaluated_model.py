"""The model of an evaluation: a finished run in torch, or a bundle on a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import ConsoleProgress
from .evaluation_images import trained_bundle

if TYPE_CHECKING:
    from ..core.decision import Decision
    from ..core.outputs import LeakOutputs
    from ..core.progress import Progress
    from ..core.spec import ModelSpec
    from ..core.support import Support
    from ..core.verdict import Verdict
    from ..runtime.detector import Detector
    from ..runtime.prepare import Frame
    from ..train.leakage import Trained


def open_model(model: Path, precision: str, backend: str, *, device: int) -> EvaluatedRun | EvaluatedBundle:
    """Open a run or a bundle. Raises UsageError for choices that a run does not have."""
    if not (model / "run.json").is_file():
        return EvaluatedBundle(model, precision, backend, device=device)
    from ..core.errors import UsageError, require

    if device or (precision, backend) not in (("auto", "auto"), ("fp32", "torch")):
        raise UsageError(
            f"{model} is a run, which is evaluated in torch at fp32; export it to choose precision, backend or device"
        )
    require("torch", "train")
    return EvaluatedRun(model)


class EvaluatedRun:
    """A finished run, evaluated in torch."""

    def __init__(self, path: Path) -> None:
        from ..train.fit import open_fitted
        from ..train.leakage import Trained as TrainedOn
        from ..train.run import Run

        with ConsoleProgress("images") as progress:
            self._fitted = open_fitted(Run.open(path), progress=progress)
        self.spec: ModelSpec = self._fitted.judge.spec
        self.decision: Decision = self._fitted.judge.decision
        self.support: Support = self._fitted.judge.support
        self.trained: Trained = TrainedOn.of_run(self._fitted.run)
        self.cache = Path(self._fitted.run.info.cache)

    def classify(self, paths: Sequence[Path], progress: Progress, outputs: list[LeakOutputs] | None) -> list[Verdict]:
        """Return one verdict per image, and append the outputs behind them to `outputs`, if it is given."""
        from ..train.judge_images import judge_images

        return judge_images(self._fitted, paths, outputs=outputs, progress=progress)

    def classify_frames(self, frames: Iterable[Frame]) -> Iterator[Verdict]:
        """Yield one verdict per frame."""
        from ..train.judge_images import judge_frames

        return judge_frames(self._fitted, frames)


class EvaluatedBundle:
    """A bundle on a backend."""

    def __init__(self, path: Path, precision: str, backend: str, *, device: int) -> None:
        from ..core.files import cache_folder
        from ..runtime.detector import Detector

        self._detector = Detector.load(path, backend=backend, precision=precision, device=device)
        self._choice = (path, backend, precision, device)
        self.spec: ModelSpec = self._detector.spec
        bundle = self._detector.bundle
        self.decision: Decision = bundle.decisions[self._detector.describe().precision]
        self.support: Support = bundle.support(self._detector.describe().precision)
        self.trained: Trained = trained_bundle(bundle)
        self.cache: Path = cache_folder() / "latents"

    def classify(self, paths: Sequence[Path], progress: Progress, outputs: list[LeakOutputs] | None) -> list[Verdict]:
        """Return one verdict per image, and append the outputs behind them to `outputs`, if it is given."""
        found = []
        for verdict in self._detector.check_stream(paths) if outputs is None else self._analysed(paths, outputs):
            found.append(verdict)
            progress("classify", len(found), len(paths))
        return found

    def classify_frames(self, frames: Iterable[Frame]) -> Iterator[Verdict]:
        """Yield one verdict per frame."""
        return self._detector.check_stream(frames)

    def with_faces(self, faces: Path) -> Detector:
        """Return a detector of the same variant that classifies the largest face of an image."""
        from ..runtime.detector import Detector

        path, backend, precision, device = self._choice
        return Detector.load(path, backend=backend, precision=precision, device=device, faces=faces)

    def _analysed(self, paths: Sequence[Path], outputs: list[LeakOutputs]) -> Iterator[Verdict]:
        for path in paths:
            (analysis,) = self._detector.analyse(path)
            if analysis.evidence is not None:
                outputs.append(analysis.evidence.outputs)
            yield analysis.verdict
