"""Encoders that users bring: each is opened, exported and run beside the file itself by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from leakrt.core.errors import LeakRTError
from leakrt.core.spec import ModelSpec
from leakrt.export.vae_graph import export_vae
from leakrt.train.onnx_vae import OnnxVae
from leakrt.train.vae import open_vae

from .encoder_graphs import SIZE, Case
from .refused_encoders import RANDOM, REFUSED
from .row import Inputs, Row
from .valid_encoders import VALID

SCALE = 0.5
_TOLERANCE = 1e-4  # of the largest latent
_SPEC = ModelSpec(class_names=("a", "b"), real_class="b", image_size=SIZE, vae_kind="onnx", vae_scale=SCALE)


def attempt(case: Case, folder: Path) -> str:
    """Open and export; empty if the graph's latents are those of the file, else the error, or how they differ.

    Raises nothing of LeakRT's own.
    """
    path = case.write(folder)
    try:
        vae = open_vae(f"onnx:{path}", SCALE, SIZE, output=case.output)
        assert isinstance(vae, OnnxVae)
        model = export_vae(vae, _SPEC)
    except LeakRTError as error:
        return str(error)
    images = np.random.default_rng(5).uniform(-1, 1, (4, 3, SIZE, SIZE)).astype(np.float32)
    try:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception:  # it reads no subgraph whose nodes are out of order
        session = ort.InferenceSession(vae.model, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    alone = [session.run([vae.output_name], {given: image[None]})[0] for image in images]
    wanted = SCALE * np.concatenate(alone)
    exported = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    for found in (exported.run(["latent"], {"image": images})[0], vae.encode(images)):
        difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        if not difference <= _TOLERANCE:
            return f"silent: latents differ by {difference:.3g} of the largest"
    return ""


def measure(inputs: Inputs) -> list[Row]:
    """Valid files, random operators, and files to refuse. `inputs` is not needed: the files are made here."""
    del inputs
    return [
        _row("valid files: accepted, latents equal the file's", VALID),
        _row("random operators: refused by type", RANDOM),
        _row("files that give no latent: refused with the reason", REFUSED),
    ]


def _row(situation: str, cases: Sequence[Case]) -> Row:
    silent, wrong = [], []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            said = attempt(case, Path(folder))
        if said.startswith("silent") or (case.refused and not said):
            silent.append(case.name)
        elif case.refused not in said or (said and not case.refused):
            wrong.append(case.name)
    figure = f"{len(wrong)} wrong refusals or reasons{''.join(f'; {name}' for name in (*silent, *wrong))}"
    return Row(situation=situation, tried=len(cases), silent=len(silent), figure=figure, target="0", met=not wrong)
