"""Draw an explanation: the image, class probabilities, step weights, gate evidence and nearest training images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..core.errors import ImageError
from ..core.images import decode_image
from .explain import Explanation
from .prepare import Frame

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

WIDTH, HEIGHT = 1240, 860
_PAGE, _CARD, _TRACK = (242, 244, 247), (255, 255, 255), (232, 236, 241)
_INK, _SOFT = (28, 35, 45), (104, 116, 132)
_NEAR, _FAR = (37, 99, 195), (221, 119, 34)  # blue and orange: distinguishable with colour blindness
_KINDS = {"real": (26, 135, 84), "generator": (200, 45, 55), "unknown": (125, 70, 180), "abstain": (176, 125, 10)}
_MARGIN, _PAD, _RADIUS = 24, 22, 14
_BARS_SHOWN = 10


def draw_png(explanation: Explanation) -> bytes:
    """Return an explanation as a PNG file, 1240 x 860 pixels."""
    page = _Page()
    left, middle = 24, 440
    _result(page.card(left, 24, 392, height=468), explanation)
    _probabilities(page.card(middle, 24, 776, height=468), explanation)
    _steps(page.card(left, 516, 392, height=320), explanation)
    _gates(page.card(middle, 516, 376, height=320), explanation)
    _exemplars(page.card(840, 516, 376, height=320), explanation)
    buffer = io.BytesIO()
    page.image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Page:
    """The page that all cards are drawn on."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), _PAGE)
        self.pen = ImageDraw.Draw(self.image)

    def card(self, x: int, y: int, width: int, *, height: int) -> _Card:
        self.pen.rounded_rectangle((x, y, x + width, y + height), _RADIUS, _CARD, (222, 227, 233))
        return _Card(self, x + _PAD, y + _PAD, width=width - 2 * _PAD, height=height - 2 * _PAD)


class _Card:
    """The inner area of one white card. Coordinates are relative to its top left corner."""

    def __init__(self, page: _Page, x: int, y: int, *, width: int, height: int) -> None:
        self._page, self._x, self._y = page, x, y
        self.width, self.height = width, height

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        colour: Colour = _INK,
        anchor: str = "la",
        max_width: float = 0,
    ) -> None:
        """Draw text at (x, y), truncated to `max_width` pixels (0: the card's width)."""
        font = _font(size)
        fitted = _fit(text, font, max_width or self.width)
        self._page.pen.text((self._x + x, self._y + y), fitted, colour, font, anchor)

    def title(self, text: str, note: str) -> None:
        """Draw the card's title and a line below it that explains the chart."""
        self.text(0, 0, text, size=19)
        self.text(0, 27, note, size=13, colour=_SOFT)

    def bar(self, x: float, y: float, width: float, *, height: float, colour: Colour) -> None:
        """Draw a filled bar, unless it is thinner than half a pixel."""
        if width >= 0.5 and height >= 0.5:
            box = (self._x + x, self._y + y, self._x + x + max(width, 1), self._y + y + height)
            self._page.pen.rounded_rectangle(box, min(3, width / 2, height / 2), colour)

    def picture(self, x: int, y: int, image: Image.Image) -> None:
        self._page.image.paste(image, (self._x + x, self._y + y))


def _result(card: _Card, explanation: Explanation) -> None:
    verdict = explanation.verdict
    colour = _KINDS.get(verdict.verdict or "abstain", _INK)
    side = 260
    image = _contain(explanation.pixels, side, card.width)
    card.picture((card.width - image.width) // 2, (side - image.height) // 2, image)
    decided = verdict.verdict in ("real", "generator")
    headline = verdict.label if decided else "abstain" if verdict.verdict == "abstain" else "unknown generator"
    card.bar(0, side + 22, 6, height=62, colour=colour)
    card.text(20, side + 17, headline, size=32, colour=colour, max_width=card.width - 20)
    confidence = (
        f"{verdict.verdict}, {100 * verdict.probability:.1f} %"
        if decided
        else f"most probable class {100 * verdict.probability:.1f} %"
    )
    card.text(20, side + 62, confidence, size=17, colour=_SOFT, max_width=card.width - 20)
    y = side + 98
    for line in _wrap("; ".join(verdict.reasons), _font(13), card.width, lines=2):
        card.text(0, y, line, size=13, colour=_INK)
        y += 18
    card.text(0, card.height - 15, Path(verdict.path).name, size=13, colour=_SOFT)


def _probabilities(card: _Card, explanation: Explanation) -> None:
    scores = explanation.verdict.scores
    ranked = sorted(scores.items(), key=lambda item: -item[1])[:_BARS_SHOWN]
    subset = f"the {len(ranked)} most probable of {len(scores)} classes; " if len(ranked) < len(scores) else ""
    card.title("Class probabilities", f"{subset}log-density of the embedding {explanation.verdict.log_density:.1f}")
    names, percent_width = 190, 70
    track = card.width - names - percent_width
    pitch = min(44.0, (card.height - 62) / len(ranked))
    for i, (name, share) in enumerate(ranked):
        y = 64 + i * pitch
        colour = _NEAR if name == explanation.winner else _FAR if name == explanation.runner_up else (139, 152, 168)
        card.text(0, y + pitch / 2 - 5, name, size=16, anchor="lm", max_width=names - 12)
        card.bar(names, y, track, height=pitch - 11, colour=_TRACK)
        card.bar(names, y, track * share, height=pitch - 11, colour=colour)
        card.text(card.width, y + pitch / 2 - 5, f"{100 * share:.1f} %", size=16, anchor="rm")


def _steps(card: _Card, explanation: Explanation) -> None:
    card.title("Diffusion steps", "weight of each timestep in the pooled embedding")
    weights = list(explanation.verdict.step_weights.items())
    top, bottom = 76, card.height - 24
    highest = max(0.25, *(weight for _, weight in weights))
    pitch = card.width / len(weights)
    for i, (step, weight) in enumerate(weights):
        x, height = i * pitch, (bottom - top) * weight / highest
        bar_width = min(64.0, pitch * 0.7)
        card.bar(x + (pitch - bar_width) / 2, bottom - height, bar_width, height=height, colour=_NEAR)
        small = 14 if len(weights) <= 8 else 10
        card.text(x + pitch / 2, bottom - height - 5, f"{100 * weight:.0f} %", size=small, anchor="mb", max_width=pitch)
        card.text(
            x + pitch / 2,
            bottom + 8,
            f"t = {step}" if len(weights) <= 6 else step,
            size=small,
            colour=_SOFT,
            anchor="ma",
            max_width=pitch,
        )


def _gates(card: _Card, explanation: Explanation) -> None:
    branches = ", ".join(f"{name} {evidence:+.2f}" for name, evidence in explanation.branches)
    several = len(explanation.branches) > 1
    card.title("Gates with the most evidence", f"evidence of {branches}" if several else "dimension, evidence, gate")
    card.bar(0, 50, 10, height=10, colour=_NEAR)
    card.text(16, 55, f"for {explanation.winner}", size=13, colour=_SOFT, anchor="lm", max_width=card.width / 2 - 20)
    card.bar(card.width / 2, 50, 10, height=10, colour=_FAR)
    card.text(
        card.width / 2 + 16,
        55,
        f"for {explanation.runner_up}",
        size=13,
        colour=_SOFT,
        anchor="lm",
        max_width=card.width / 2 - 20,
    )
    rows, top = explanation.gates, 78
    largest = max((abs(row.evidence) for row in rows), default=0.0) or 1.0
    axis, half = card.width / 2, card.width / 2 - 46
    pitch = (card.height - top) / len(rows)
    card.bar(axis - 0.5, top - 3, 1, height=card.height - top + 3, colour=_TRACK)
    for i, row in enumerate(rows):
        y, length = top + i * pitch, half * abs(row.evidence) / largest
        near = row.evidence >= 0
        card.bar(axis if near else axis - length, y, length, height=pitch - 5, colour=_NEAR if near else _FAR)
        card.text(0, y + (pitch - 5) / 2, f"{row.dimension}", size=12, colour=_SOFT, anchor="lm", max_width=40)
        card.text(
            card.width, y + (pitch - 5) / 2, f"{100 * row.gate:.0f} %", size=12, colour=_SOFT, anchor="rm", max_width=40
        )


def _exemplars(card: _Card, explanation: Explanation) -> None:
    card.title("Nearest training images", "of each class's nearest prototype")
    for i, ((prototype, files), colour) in enumerate(zip(explanation.exemplars, (_NEAR, _FAR), strict=False)):
        y = 58 + i * 112
        card.bar(0, y, 4, height=15, colour=colour)
        card.text(12, y, prototype, size=14, max_width=card.width - 12)
        images = [image for image in map(_thumbnail, files) if image is not None][:4]
        for j, image in enumerate(images):
            card.picture(j * 84, y + 22, image)
        if not images:
            card.text(12, y + 44, "none in the bundle", size=13, colour=_SOFT)


def _thumbnail(file: bytes) -> Image.Image | None:
    try:
        return _contain(decode_image(file, "exemplar", max_pixels=1_000_000).pixels, 80, 80)
    except ImageError:
        return None


def _contain(pixels: Frame, height: int, width: int) -> Image.Image:
    """Scale an image to fit, by at most 4x."""
    image = Image.fromarray(pixels[:, :, ::-1])
    scale = min(height / image.height, width / image.width, 4.0)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _fit(text: str, font: Font, max_width: float) -> str:
    """Truncate `text` with an ellipsis to `max_width` pixels."""
    if font.getlength(text) <= max_width:
        return text
    while text and font.getlength(text + "...") > max_width:
        text = text[:-1]
    return text + "..."


def _wrap(text: str, font: Font, max_width: float, *, lines: int) -> Sequence[str]:
    """Break `text` at spaces into at most `lines` lines. The last line may be longer than `max_width` pixels."""
    words, wrapped = text.split(), [""]
    for word in words:
        longer = f"{wrapped[-1]} {word}".strip()
        if font.getlength(longer) <= max_width or len(wrapped) == lines:
            wrapped[-1] = longer
        else:
            wrapped.append(word)
    return wrapped
