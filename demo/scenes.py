"""Procedural portraits for the simulated camera. No photograph is used.

A scene is linear-light RGB. Heads are height fields (ellipsoid, nose, brow, lips, sockets) lit by one lamp and the sky.
Faces, backgrounds, hair and light are drawn from the random stream of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Grid:
    """Pixel coordinates of one scene: x to the right and y down, -1 to 1 across the picture, float32 [S, S]."""

    x: Array
    y: Array
    pixel: float  # width of a pixel in these units

    def ellipse(self, cx: float, cy: float, rx: float, *, ry: float, soft: float = 2.0) -> Array:
        """Return the coverage in [0, 1] of an ellipse with an edge `soft` pixels wide."""
        radius = np.sqrt(((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2)
        return _smooth((1.0 - radius) * min(rx, ry) / (soft * self.pixel) + 0.5)

    def gauss(self, cx: float, cy: float, sx: float, *, sy: float) -> Array:
        """Return a Gaussian bump of height 1."""
        return np.asarray(np.exp(-0.5 * (((self.x - cx) / sx) ** 2 + ((self.y - cy) / sy) ** 2)), np.float32)


@dataclass(frozen=True, kw_only=True)
class _FaceShape:
    """Positions and colours of the parts of a face, in head units (the head has half axes 1 and `width`)."""

    width: float
    eye: float  # half the distance between the eyes
    eye_y: float
    mouth_y: float
    yaw: float  # sideways shift of the features
    skin: Array  # [3] albedo
    hair: Array  # [3] albedo
    iris: Array  # [3] albedo


def render_scene(rng: np.random.Generator, size: int) -> Array:
    """Render a portrait drawn from `rng`: linear RGB float32 [size, size, 3] in [0, 1]."""
    grid = _canvas(rng, size)
    picture = _background(rng, size)
    picture = _torso(rng, grid, picture)
    scale, tilt = rng.uniform(0.56, 0.74), rng.normal(0, 0.1)
    head = _place(grid, rng.normal(0, 0.08), rng.normal(-0.1, 0.04), scale=scale, tilt=tilt)
    face = _draw_face(rng)
    picture = _hair_behind(rng, head, face, picture=picture)
    shaded, cover = _head(rng, head, face)
    picture = _over(picture, shaded, cover)
    picture = _hair_in_front(rng, head, face, picture=picture)
    if rng.random() < 0.2:
        picture = _glasses(rng, head, face, picture=picture)
    return np.clip(picture, 0.0, 1.0)


def pink_noise(rng: np.random.Generator, size: int, slope: float, *, stretch: float = 1.0) -> Array:
    """Return Gaussian noise float32 [size, size] with mean 0, standard deviation 1 and spectrum 1/f^slope.

    `stretch` > 1 stretches it along y, for hair.
    """
    fy = np.fft.fftfreq(size)[:, None] * stretch
    fx = np.fft.rfftfreq(size)[None, :]
    amplitude = (fx * fx + fy * fy + 0.25 / size**2) ** (-slope / 2)
    amplitude[0, 0] = 0.0
    phase = rng.standard_normal(amplitude.shape) + 1j * rng.standard_normal(amplitude.shape)
    texture = np.fft.irfft2(phase * amplitude, s=(size, size))
    return np.asarray(texture / (texture.std() + 1e-12), np.float32)


def _canvas(rng: np.random.Generator, size: int) -> _Grid:
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    return _Grid(np.asarray(x, np.float32), np.asarray(y, np.float32), 2.0 / size)


def _place(grid: _Grid, cx: float, cy: float, *, scale: float, tilt: float) -> _Grid:
    """Return the grid in the units of a head at (cx, cy) that is tilted by `tilt` radians."""
    c, s = np.float32(np.cos(tilt) / scale), np.float32(np.sin(tilt) / scale)
    x, y = grid.x - np.float32(cx), grid.y - np.float32(cy)
    return _Grid(c * x + s * y, c * y - s * x, grid.pixel / scale)


def _smooth(t: npt.NDArray[np.floating]) -> Array:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _over(below: Array, above: Array, cover: Array) -> Array:
    """Blend `above` [S, S, 3] or [3] over `below` with the coverage `cover` [S, S]."""
    return np.asarray(below + cover[..., None] * (above - below), np.float32)


def _colour(rng: np.random.Generator, low: float, high: float, *, saturation: float) -> Array:
    grey = rng.uniform(low, high)
    tint = 1 + saturation * rng.uniform(-1, 1, 3)
    return np.asarray(np.clip(grey * tint, 0.005, 0.95), np.float32)


def _background(rng: np.random.Generator, size: int) -> Array:
    grid = _canvas(rng, size)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = _smooth(0.5 + 0.5 * (grid.x * np.cos(angle) + grid.y * np.sin(angle)).astype(np.float32))
    picture = _over(
        np.broadcast_to(_colour(rng, 0.03, 0.6, saturation=0.35), (size, size, 3)),
        _colour(rng, 0.03, 0.6, saturation=0.35),
        ramp,
    )
    kind = rng.integers(4)
    if kind == 0:  # lights out of focus
        for _ in range(rng.integers(3, 9)):
            radius = rng.uniform(0.06, 0.25)
            cx, cy = rng.uniform(-1, 1, 2)
            disc = grid.ellipse(cx, cy, radius, ry=radius, soft=rng.uniform(1, 6))
            picture = _over(picture, _colour(rng, 0.3, 0.9, saturation=0.6), disc * np.float32(rng.uniform(0.2, 0.8)))
    elif kind == 1:  # panels, shelves, a window
        for _ in range(rng.integers(2, 6)):
            cx, cy, w, h = *rng.uniform(-1, 1, 2), *rng.uniform(0.1, 0.7, 2)
            inside = np.minimum(w - np.abs(grid.x - cx), h - np.abs(grid.y - cy)) / grid.pixel
            picture = _over(picture, _colour(rng, 0.05, 0.8, saturation=0.4), _smooth(inside.astype(np.float32) / 2))
    elif kind == 2:  # foliage
        picture = picture * np.exp(np.float32(0.45) * pink_noise(rng, size, rng.uniform(0.9, 1.4)))[..., None]
    texture = pink_noise(rng, size, rng.uniform(0.9, 1.8))
    return np.asarray(picture * (1 + np.float32(rng.uniform(0.02, 0.15)) * texture[..., None]), np.float32)


def _torso(rng: np.random.Generator, grid: _Grid, picture: Array) -> Array:
    size = len(grid.x)
    cloth = np.broadcast_to(_colour(rng, 0.02, 0.5, saturation=0.6), (size, size, 3))
    kind = rng.integers(3)
    if kind == 0:  # stripes or checks
        frequency = rng.uniform(8, 40)
        wave = np.sin(frequency * grid.x + rng.uniform(0, 6)) * (
            np.sin(frequency * grid.y) if rng.random() < 0.5 else 1
        )
        cloth = _over(cloth, _colour(rng, 0.02, 0.6, saturation=0.6), _smooth(wave.astype(np.float32) * 2 + 0.5))
    elif kind == 1:  # knit
        cloth = cloth * (1 + np.float32(0.25) * pink_noise(rng, size, 0.5)[..., None])
    folds = np.exp(np.float32(0.25) * pink_noise(rng, size, 1.7, stretch=0.5))
    cover = grid.ellipse(rng.normal(0, 0.08), 1.25, rng.uniform(0.75, 1.0), ry=rng.uniform(0.6, 0.75))
    return _over(picture, cloth * folds[..., None], cover)


def _draw_face(rng: np.random.Generator) -> _FaceShape:
    tone = rng.beta(1.3, 1.1)  # from very dark to very pale skin
    skin = np.array([0.11, 0.06, 0.04]) * (1 - tone) + np.array([0.72, 0.48, 0.38]) * tone
    hairs = np.array([[0.01, 0.01, 0.01], [0.06, 0.03, 0.015], [0.2, 0.1, 0.04], [0.5, 0.36, 0.16], [0.45, 0.45, 0.46]])
    irises = np.array([[0.05, 0.025, 0.01], [0.12, 0.07, 0.03], [0.08, 0.16, 0.3], [0.1, 0.18, 0.08]])
    return _FaceShape(
        width=rng.uniform(0.68, 0.8),
        eye=rng.uniform(0.27, 0.33),
        eye_y=rng.uniform(-0.16, -0.06),
        mouth_y=rng.uniform(0.46, 0.56),
        yaw=float(np.clip(rng.normal(0, 0.07), -0.16, 0.16)),
        skin=np.asarray(skin * rng.uniform(0.9, 1.1, 3), np.float32),
        hair=np.asarray(hairs[rng.integers(len(hairs))] * rng.uniform(0.7, 1.3, 3), np.float32),
        iris=np.asarray(irises[rng.integers(len(irises))] * rng.uniform(0.8, 1.2, 3), np.float32),
    )


def _height(rng: np.random.Generator, g: _Grid, f: _FaceShape) -> Array:
    """Return the height field of the face, in head units."""
    nose = 0.5 * (f.eye_y + f.mouth_y) + 0.03
    dome = 0.8 * np.sqrt(np.clip(1 - (g.x / f.width) ** 2 - g.y**2, 0.0, None))
    relief = rng.uniform(0.10, 0.17) * g.gauss(f.yaw, nose, 0.075, sy=0.09)
    relief = relief + 0.09 * g.gauss(f.yaw * 0.8, f.eye_y + 0.18, 0.05, sy=0.17)
    for side in (-1.0, 1.0):
        relief = relief - 0.06 * g.gauss(side * f.eye + f.yaw, f.eye_y, 0.13, sy=0.08)
        relief = relief + 0.05 * g.gauss(side * f.eye + f.yaw, f.eye_y - 0.16, 0.17, sy=0.05)
        relief = relief + 0.04 * g.gauss(side * 0.4 + f.yaw, f.eye_y + 0.38, 0.14, sy=0.12)
        relief = relief + 0.03 * g.gauss(side * 0.06 + f.yaw, nose + 0.03, 0.04, sy=0.04)
    relief = relief + 0.04 * g.gauss(f.yaw, f.mouth_y - 0.03, 0.16, sy=0.03)
    relief = (
        relief + 0.05 * g.gauss(f.yaw, f.mouth_y + 0.05, 0.13, sy=0.035) + 0.05 * g.gauss(f.yaw, 0.85, 0.15, sy=0.1)
    )
    return np.asarray(dome + relief, np.float32)


def _head(rng: np.random.Generator, g: _Grid, f: _FaceShape) -> tuple[Array, Array]:
    """Return the lit head, float32 [S, S, 3], and its coverage [S, S]."""
    size = len(g.x)
    jaw = _Grid(g.x * (1 + 0.22 * np.clip(g.y, 0, None) ** 2), g.y, g.pixel)
    cover = jaw.ellipse(0.0, 0.0, f.width, ry=1.0, soft=2.5)
    for side in (-1.0, 1.0):
        cover = np.maximum(cover, g.ellipse(side * f.width, f.eye_y + 0.12, 0.09, ry=0.18))
    neck = _smooth((0.36 - np.abs(g.x)) / (3 * g.pixel)) * _smooth((g.y - 0.5) / g.pixel)
    dy, dx = np.gradient(_height(rng, jaw, f), g.pixel)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lamp = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.1), rng.uniform(0.5, 1.0)], np.float32)
    lamp /= np.linalg.norm(lamp)
    diffuse = np.clip(normal @ lamp, 0, None)
    half = lamp + np.array([0, 0, 1])
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 30
    ambient = np.float32(rng.uniform(0.15, 0.5)) * (0.75 - 0.25 * normal[..., 1])
    albedo = _complexion(rng, g, f)
    wrap = np.stack([np.clip(diffuse + k, 0, None) / (1 + k) for k in (0.12, 0.04, 0.02)], axis=-1)
    strength, colour = rng.uniform(0.7, 1.15), 1 + 0.12 * rng.uniform(-1, 1, 3)
    lit = albedo * (ambient[..., None] + strength * wrap * colour) + rng.uniform(0.0, 0.18) * shine[..., None]
    throat = f.skin * np.float32(rng.uniform(0.2, 0.5)) * np.ones((size, size, 1), np.float32)
    return np.asarray(_over(throat, lit, cover), np.float32), np.maximum(cover, neck)


def _complexion(rng: np.random.Generator, g: _Grid, f: _FaceShape) -> Array:
    """Return the albedo of skin, eyes, brows and lips, float32 [S, S, 3]."""
    size = len(g.x)
    pores = 1 + np.float32(rng.uniform(0.02, 0.08)) * pink_noise(rng, size, rng.uniform(0.6, 1.1))
    albedo = f.skin * pores[..., None]
    for side in (-1.0, 1.0):
        albedo = _over(
            albedo, f.skin * (1.1, 0.75, 0.75), 0.5 * g.gauss(side * 0.38 + f.yaw, f.eye_y + 0.4, 0.16, sy=0.13)
        )
    if rng.random() < 0.3:  # beard
        beard = _smooth(g.gauss(f.yaw, 0.8, 0.45, sy=0.3) * 2.2 + 0.25 * pink_noise(rng, size, 0.4) - 0.6)
        albedo = _over(albedo, f.hair, beard * np.float32(rng.uniform(0.3, 0.95)))
    lips = f.skin * np.array([rng.uniform(0.8, 1.1), rng.uniform(0.35, 0.6), rng.uniform(0.4, 0.6)], np.float32)
    width = rng.uniform(0.17, 0.24)
    albedo = _over(albedo, lips, g.ellipse(f.yaw, f.mouth_y, width, ry=rng.uniform(0.05, 0.085), soft=3))
    smile = f.mouth_y - rng.uniform(-0.02, 0.06) * ((g.x - f.yaw) / width) ** 2
    gape = rng.uniform(0.008, 0.05)
    line = _smooth(1.2 - np.abs(g.y - smile) / gape) * g.ellipse(f.yaw, f.mouth_y, width, ry=0.2)
    albedo = _over(albedo, np.array([0.05, 0.01, 0.01], np.float32), line.astype(np.float32))
    for side in (-1.0, 1.0):
        albedo = _eye(rng, g, f, albedo=albedo, cx=side * f.eye + f.yaw)
    return albedo


def _eye(rng: np.random.Generator, g: _Grid, f: _FaceShape, *, albedo: Array, cx: float) -> Array:
    wide, tall, gaze = 0.115, 0.055, f.yaw * 0.3
    white = g.ellipse(cx, f.eye_y, wide, ry=tall)
    albedo = _over(
        albedo, f.skin * np.float32(0.45), g.ellipse(cx, f.eye_y - 0.012, wide * 1.15, ry=tall * 1.35, soft=3)
    )
    albedo = _over(albedo, np.array([0.75, 0.72, 0.7], np.float32), white)
    albedo = _over(albedo, f.iris, g.ellipse(cx + gaze, f.eye_y, 0.056, ry=0.056) * white)
    albedo = _over(albedo, np.full(3, 0.005, np.float32), g.ellipse(cx + gaze, f.eye_y, 0.026, ry=0.026) * white)
    albedo = _over(albedo, np.full(3, 1.6, np.float32), g.ellipse(cx + gaze + 0.015, f.eye_y - 0.02, 0.014, ry=0.014))
    lid = _smooth(1.4 - np.abs(g.y - (f.eye_y - tall * np.sqrt(np.clip(1 - ((g.x - cx) / wide) ** 2, 0, 1)))) / 0.016)
    albedo = _over(albedo, f.hair * np.float32(0.5), lid * g.ellipse(cx, f.eye_y - 0.03, wide * 1.1, ry=tall * 1.2))
    arch = f.eye_y - 0.17 + 0.9 * (g.x - cx) ** 2
    hairs = 0.8 + 0.3 * pink_noise(rng, len(g.x), 0.3)
    brow = (
        _smooth(1.3 - np.abs(g.y - arch) / 0.032) * g.ellipse(cx, f.eye_y - 0.15, 0.16, ry=0.12) * np.clip(hairs, 0, 1)
    )
    return _over(albedo, f.hair * np.float32(0.8), brow.astype(np.float32))


def _strands(rng: np.random.Generator, size: int, hair: Array) -> Array:
    """Return the colour of hair strands, float32 [S, S, 3]."""
    streaks = np.exp(0.45 * pink_noise(rng, size, 0.9, stretch=8.0) + 0.3 * pink_noise(rng, size, 1.5))
    return np.asarray(hair * streaks[..., None] * np.float32(rng.uniform(0.5, 1.1)) + 0.004, np.float32)


def _hair_behind(rng: np.random.Generator, g: _Grid, f: _FaceShape, *, picture: Array) -> Array:
    size = len(g.x)
    length, volume = rng.choice([0.5, 0.9, 1.5]), rng.uniform(1.05, 1.3)
    ragged = _Grid(g.x + 0.02 * pink_noise(rng, size, 1.0), g.y + 0.02 * pink_noise(rng, size, 1.0), g.pixel)
    cover = ragged.ellipse(0.0, -0.22 + 0.35 * length, f.width * volume, ry=0.9 + 0.35 * length, soft=3)
    return _over(picture, _strands(rng, size, f.hair), cover)


def _hair_in_front(rng: np.random.Generator, g: _Grid, f: _FaceShape, *, picture: Array) -> Array:
    if rng.random() < 0.1:
        return picture
    size = len(g.x)
    parting, depth = rng.uniform(-0.4, 0.4), rng.uniform(-0.7, -0.45)
    edge = depth + rng.uniform(0.3, 0.9) * np.abs(g.x - parting) ** rng.uniform(1.4, 2.4) * np.sign(
        rng.uniform(-0.3, 1)
    )
    edge = edge + 0.035 * pink_noise(rng, size, 1.1)
    cap = g.ellipse(0.0, -0.12, f.width * 1.06, ry=1.0, soft=3)
    fringe = _smooth((edge - g.y) / (4 * g.pixel) + 0.5) * cap
    return _over(picture, _strands(rng, size, f.hair), fringe)


def _glasses(rng: np.random.Generator, g: _Grid, f: _FaceShape, *, picture: Array) -> Array:
    frame = np.zeros_like(g.x)
    radius, thick = rng.uniform(0.16, 0.21), rng.uniform(0.02, 0.04)
    for side in (-1.0, 1.0):
        cx = side * f.eye + f.yaw
        ring = g.ellipse(cx, f.eye_y, radius + thick, ry=radius) - g.ellipse(cx, f.eye_y, radius, ry=radius - thick)
        frame = np.maximum(frame, np.clip(ring, 0, 1))
    bridge = _smooth(1.2 - np.abs(g.y - f.eye_y) / 0.025) * (np.abs(g.x - f.yaw) < f.eye - radius)
    frame = np.maximum(frame, bridge)
    return _over(picture, _colour(rng, 0.01, 0.3, saturation=0.6), np.asarray(frame, np.float32))
