"""The quickstart's report: one self-contained HTML file."""

from __future__ import annotations

import html
import io
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.figures import figure, percent
from ..core.files import atomic_write
from ..core.html import cards, page, picture, table
from ..core.images import find_images
from ..runtime.detector import Detector
from ..runtime.explain_files import explain_stream
from ..train.evaluation import Evaluation, closed_results, open_results
from ..train.plots import write_plots
from .run import DemoResult
from .spectra import residual_spectrum, spectrum_pictures

_STRIP = 6  # pictures of each class
_EXPLAINED = 1  # of each class
_ABOUT = {
    "real": "a rendered portrait, photographed: Bayer mosaic, noise, demosaic, sharpening, JPEG",
    "transposed": "copied by a decoder with transposed convolutions",
    "nearest": "copied by a decoder with nearest-neighbour upsampling and convolutions",
    "pixelshuffle": "copied by a decoder with a pixel shuffle",
    "unseen": "copied by a patch decoder that was withheld from training",
}


def write_report(out: Path, result: DemoResult) -> Path:
    """Write `report.html` into `out`. Raises StorageError."""
    parts = [
        "<h1>LeakRT quickstart</h1><p>A detector trained on rendered pictures, tested on pictures it has not seen.</p>",
        _cards(result.evaluation),
        "<h2>Pictures</h2><p>The last image of a row is the mean spectrum of noise residuals, on a common scale.</p>",
        *_strips(out),
        "<h2>Attribution</h2>",
        _plots(result),
        "<h2>Explanations: one picture per class</h2>",
        *_explanations(result),
        "<h2>Latency, one picture at a time</h2>",
        _latency(result),
        "<h2>Next</h2><p>Train on your own images, one folder per class, with a VAE: "
        "<code>leakrt train DATA --vae sd:FOLDER --out RUN</code>, <code>leakrt export RUN --out BUNDLE</code>, "
        "<code>leakrt check BUNDLE IMAGE</code>. The figures on this page describe simulated pictures only.</p>",
    ]
    path = out / "report.html"
    atomic_write(path, page("LeakRT quickstart", parts).encode())
    return path


def _cards(figures: Evaluation) -> str:
    decision, unseen = figures.decision, figures.open
    return cards(
        [
            ("macro AUC", figure(figures.closed.macro_auc, form=".3f"), ""),
            ("balanced accuracy", figure(figures.closed.balanced_accuracy, form=".3f"), ""),
            ("false alarms", f"{decision.false_alarm_count} of {decision.real_faces}", ""),
            ("coverage", f"{100 * decision.coverage:.0f} %", ""),
            ("generated detected", percent(decision.generated_called_generated, form=".0f"), ""),
            ("unseen detected", f"{100 * unseen.called_generated:.0f} %" if unseen else "-", ""),
        ]
    )


def _strips(out: Path) -> list[str]:
    """Return one strip per class: pictures, then the spectrum, which shows the period of the upsampler."""
    folders = [out / "data" / "test" / name for name in list(_ABOUT)[:-1]] + [out / "open" / "unseen"]
    files = {folder: find_images(folder) for folder in folders}
    spectra = spectrum_pictures({folder.name: residual_spectrum(paths) for folder, paths in files.items()})
    strips = []
    for folder, paths in files.items():
        images = "".join(picture(path.read_bytes(), "jpeg", folder.name) for path in paths[:_STRIP])
        images += picture(spectra[folder.name], "png", f"mean residual spectrum of {folder.name}")
        caption = f"<b>{folder.name}</b>: {html.escape(_ABOUT[folder.name])}"
        strips.append(f'<figure><div class="strip">{images}</div><figcaption>{caption}</figcaption></figure>')
    return strips


def _plots(result: DemoResult) -> str:
    closed = closed_results(result.closed, result.labels, result.detector.spec)
    with TemporaryDirectory() as folder:
        files = write_plots(Path(folder), closed, open_results(result.unseen))
        pictures = "".join(picture(path.read_bytes(), "png", path.stem) for path in files)
    return f'<div class="plots">{pictures}</div>'


def _explanations(result: DemoResult) -> list[str]:
    chosen: list[tuple[str, Path]] = []
    for name in dict.fromkeys(result.labels):
        pairs = zip(result.labels, result.closed, strict=True)
        chosen += [(name, Path(v.path)) for label, v in pairs if label == name][:_EXPLAINED]
    chosen += [("unseen", Path(v.path)) for v in result.unseen[:_EXPLAINED]]
    return [_explanation(result.detector, name, path) for name, path in chosen]


def _explanation(detector: Detector, name: str, path: Path) -> str:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "explanation.png"
        verdict = next(iter(explain_stream(detector, [path], target)))
        image = picture(_as_jpeg(target.read_bytes()), "jpeg", f"explanation of {name}")
    caption = f"made by <b>{name}</b>; verdict <b>{verdict.verdict}</b>: {html.escape('; '.join(verdict.reasons))}"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _latency(result: DemoResult) -> str:
    rows = [(name, *(f"{value:.2f}" for value in values)) for name, values in result.latency.items()]
    return table(("stage", "p50 ms", "p90", "p99"), rows)


def _as_jpeg(png: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
