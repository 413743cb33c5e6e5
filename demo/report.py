"""The quickstart's report: one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.figures import figure, percent
from ..core.files import atomic_write
from ..core.images import find_images
from ..runtime.detector import Detector
from ..runtime.explain_files import explain_stream
from ..train.evaluation import Evaluation, closed_results, open_results
from ..train.plots import write_plots
from .run import DemoResult
from .spectra import residual_spectrum, spectrum_pictures

_STRIP = 6  # pictures of each class
_EXPLAINED = 1  # of each class
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { margin-top: 2.2rem; font-size: 1.2rem }
img { max-width: 100%; border-radius: 6px } .strip { display: flex; gap: 4px; overflow-x: auto }
.strip img { width: 96px; height: 96px; image-rendering: auto }
figure { margin: 0.8rem 0 } figcaption { font-size: 0.9rem; opacity: 0.8 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: 0.25rem 0.7rem 0.25rem 0;
border-bottom: 1px solid var(--line) } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.7rem }
.card { background: var(--soft); border-radius: 8px; padding: 0.7rem 0.9rem } .card b { display: block;
font-size: 1.5rem }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
gap: 1rem } .plots img { background: #fff }
code { background: var(--soft); padding: 0.1rem 0.3rem; border-radius: 4px }
"""
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
    body = "".join(parts)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>LeakRT quickstart</title><style>{_STYLE}</style><body>{body}</body></html>"
    )
    path = out / "report.html"
    atomic_write(path, page.encode())
    return path


def _cards(figures: Evaluation) -> str:
    decision, unseen = figures.decision, figures.open
    values = [
        ("macro AUC", figure(figures.closed.macro_auc, form=".3f")),
        ("balanced accuracy", figure(figures.closed.balanced_accuracy, form=".3f")),
        ("false alarms", f"{decision.false_alarm_count} of {decision.real_faces}"),
        ("coverage", f"{100 * decision.coverage:.0f} %"),
        ("generated detected", percent(decision.generated_called_generated, form=".0f")),
        ("unseen detected", f"{100 * unseen.called_generated:.0f} %" if unseen else "-"),
    ]
    cards = "".join(f'<div class="card">{name}<b>{value}</b></div>' for name, value in values)
    return f'<div class="cards">{cards}</div>'


def _strips(out: Path) -> list[str]:
    """Return one strip per class: pictures, then the spectrum, which shows the period of the upsampler."""
    folders = [out / "data" / "test" / name for name in list(_ABOUT)[:-1]] + [out / "open" / "unseen"]
    files = {folder: find_images(folder) for folder in folders}
    spectra = spectrum_pictures({folder.name: residual_spectrum(paths) for folder, paths in files.items()})
    strips = []
    for folder, paths in files.items():
        images = "".join(_image(path.read_bytes(), "jpeg", folder.name) for path in paths[:_STRIP])
        images += _image(spectra[folder.name], "png", f"mean residual spectrum of {folder.name}")
        caption = f"<b>{folder.name}</b>: {html.escape(_ABOUT[folder.name])}"
        strips.append(f'<figure><div class="strip">{images}</div><figcaption>{caption}</figcaption></figure>')
    return strips


def _plots(result: DemoResult) -> str:
    closed = closed_results(result.closed, result.labels, result.detector.spec)
    with TemporaryDirectory() as folder:
        files = write_plots(Path(folder), closed, open_results(result.unseen))
        pictures = "".join(_image(path.read_bytes(), "png", path.stem) for path in files)
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
        picture = _image(_as_jpeg(target.read_bytes()), "jpeg", f"explanation of {name}")
    caption = f"made by <b>{name}</b>; verdict <b>{verdict.verdict}</b>: {html.escape('; '.join(verdict.reasons))}"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _latency(result: DemoResult) -> str:
    head = '<tr><th>stage</th><th class="n">p50 ms</th><th class="n">p90</th><th class="n">p99</th></tr>'
    return f"<table>{head}{''.join(_row(name, values) for name, values in result.latency.items())}</table>"


def _row(name: str, values: Sequence[float]) -> str:
    return f"<tr><td>{html.escape(name)}</td>{''.join(f'<td class=n>{v:.2f}</td>' for v in values)}</tr>"


def _as_jpeg(png: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _image(data: bytes, kind: str, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
