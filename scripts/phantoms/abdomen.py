"""The upper abdomen as layers of tissues that cover one another."""

from __future__ import annotations

import numpy as np

from phantoms.geometry import BoolArray, FloatArray, Grid, Random, column, ellipsoid, rotation, tube
from phantoms.tissues import Layer, Tissue, Tissues, cover

LABELS = {"0": "background", "1": "liver", "2": "right kidney", "3": "left kidney", "4": "spleen"}
LABEL_VALUES = np.zeros(len(Tissue), dtype=np.uint8)  # without the kidneys, whose value depends on the side
LABEL_VALUES[[Tissue.LIVER, Tissue.SPLEEN]] = (1, 4)
LABEL_VALUES[[Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA]] = (2, 2)
LEFT_KIDNEY = 3


def label_values(tissues: Tissues, grid: Grid) -> Tissues:
    """Returns the labels of tissues on a grid; the kidney on the patient's left has a value of its own."""
    labels = LABEL_VALUES[tissues]
    labels[(labels == 2) & (grid.points()[0] < 0)] = LEFT_KIDNEY
    return labels


def draw_tissues(grid: Grid, rng: Random) -> Tissues:
    """Draws a subject's abdomen, with the lower chest and the upper pelvis, and samples it on the grid."""
    warp = np.stack([grid.noise(rng, 45) for _ in range(3)])
    points = grid.points() + warp * np.float32(rng.uniform(2, 5))
    scale = np.clip(rng.normal(1, 0.06), 0.88, 1.12) * rng.normal(1, 0.04, 3)
    organs = (points - column(rng.normal(0, (4, 4, 8)))) / column(scale)
    skin = rng.normal(168, 10), rng.normal(112, 8)  # half of the body's width and depth in mm
    body = (points[0] / skin[0]) ** 2 + ((points[1] + 5) / skin[1]) ** 2  # 1 on the skin
    layers = [
        *wall_layers(points, body, rng),
        *bowel_layers(organs, grid, body, rng),
        *chest_layers(organs, grid, body, rng),
        *organ_layers(organs, grid, rng),
        *spine_layers(points, body, rng),
    ]
    return cover(grid.shape, layers)


def wall_layers(points: FloatArray, body: FloatArray, rng: Random) -> list[Layer]:
    """Fat under the skin, the muscles of the wall, and the fat of the cavity."""
    fat = rng.uniform(0.72, 0.88)
    cavity = fat - rng.uniform(0.14, 0.20)
    pelvis = points[2] < -150
    return [
        (Tissue.FAT, body < 1),
        (Tissue.MUSCLE, body < fat),
        (Tissue.VISCERAL_FAT, (body < cavity) & (points[1] > -62) & ~pelvis),
        (Tissue.VISCERAL_FAT, (body < 0.6 * cavity) & (points[1] > -50) & pelvis),
    ]


def bowel_layers(organs: FloatArray, grid: Grid, body: FloatArray, rng: Random) -> list[Layer]:
    """Loops of bowel in front and below, in part with gas, and the colon at both sides."""
    _, y, z = organs
    room = (body < 0.45) & (y > -28) & (z < -8 + rng.normal(0, 8))
    # A noise field is near zero on winding sheets: they separate loops.
    loops = np.abs(grid.noise(rng, 34))
    gas = grid.noise(rng, 40) > 1.3
    side, top = rng.normal(98, 5), rng.normal(-5, 10)
    colon = [tube(organs, [(sign * side, 5, top), (sign * (side + 6), 0, -160)], 20) for sign in (1, -1)]
    across = tube(organs, [(side, 20, top), (0, 62, top - 18), (-side, 20, top + 15)], 18)
    outer = np.minimum(np.minimum(*colon), across)
    return [
        (Tissue.BOWEL_WALL, room & (loops > 0.12)),
        (Tissue.BOWEL_CONTENT, room & (loops > 0.38)),
        (Tissue.BOWEL_WALL, outer < 0),
        (Tissue.BOWEL_CONTENT, outer < -4),
        (Tissue.AIR, ((outer < -5) | (room & (loops > 0.5))) & gas & (y > 10)),
    ]


def chest_layers(organs: FloatArray, grid: Grid, body: FloatArray, rng: Random) -> list[Layer]:
    """Lungs above the diaphragm, and the lower part of the heart."""
    x, y, z = organs
    right_dome, left_dome = rng.normal(96, 7), rng.normal(84, 7)
    height = np.where(x > 0, right_dome, left_dome) - 0.008 * ((np.abs(x) - 70) ** 2 + (y + 10) ** 2)
    chest = (body < 0.68) & (z > height)
    lungs = chest & (np.abs(x) > 18)
    vessels = lungs & (np.hypot(grid.noise(rng, 14), grid.noise(rng, 14)) < 0.3)
    heart = ellipsoid(organs, (-22, 20, right_dome + 26), (58, 46, 34))
    return [
        (Tissue.MUSCLE, chest),
        (Tissue.LUNG, lungs),
        (Tissue.LUNG_VESSEL, vessels),
        (Tissue.MYOCARDIUM, heart < 0),
    ]


def organ_layers(organs: FloatArray, grid: Grid, rng: Random) -> list[Layer]:
    """Liver with gallbladder, stomach, spleen, pancreas, kidneys, aorta and vena cava."""
    surface = grid.noise(rng, 40)
    right_lobe = ellipsoid(organs, np.array([72, -6, 22]) + rng.normal(0, 3, 3), rng.normal((64, 74, 72), 4))
    left_lobe = ellipsoid(
        organs, np.array([12, 34, 48]) + rng.normal(0, 4, 3), rng.normal((76, 32, 30), 4), rotation((0, 1, 0), 0.25)
    )
    liver = np.minimum(right_lobe, left_lobe) + 2 * surface
    tip = ellipsoid(organs, (88, 0, -45), rng.normal((26, 40, 50), 5))
    gallbladder = ellipsoid(organs, np.array([52, 44, -28]) + rng.normal(0, 5, 3), rng.normal((13, 14, 24), 2))
    stomach_center = np.array([-48, 26, 38]) + rng.normal(0, 6, 3)
    stomach_radii = np.array([38, 34, 44]) * rng.uniform(0.65, 1.15)
    stomach = ellipsoid(organs, stomach_center, stomach_radii, rotation((0, 1, 0), 0.5)) + 2 * surface
    gas_level = stomach_center[1] + rng.uniform(0.2, 1) * stomach_radii[1]
    spleen_axes = rotation((1, 0, 0), -0.5) @ rotation((0, 0, 1), 0.5)
    spleen = ellipsoid(
        organs, np.array([-102, -30, 38]) + rng.normal(0, 4, 3), rng.normal((22, 42, 48), 5), spleen_axes
    ) + 1.5 * grid.noise(rng, 30)
    pancreas = tube(organs, [(38, 12, -18), (8, 22, -4), (-30, 8, 8), (-66, -14, 22)], rng.normal(11, 1.2))
    aorta = tube(organs, [(-9, -32, 150), (-10, -30, -110), (-34, -20, -190)], rng.normal(11, 1.3))
    cava = tube(organs, [(20, -12, 110), (19, -26, 20), (20, -28, -110), (36, -26, -190)], rng.normal(12, 1.5))
    veins = (liver < -8) & (np.hypot(grid.noise(rng, 26), grid.noise(rng, 26)) < 0.12)
    layers = [
        (Tissue.PANCREAS, pancreas < 0),
        (Tissue.BOWEL_WALL, stomach < 0),
        (Tissue.STOMACH, stomach < -4),
        (Tissue.AIR, (stomach < -4) & (organs[1] > gas_level)),
        (Tissue.LIVER, (np.minimum(liver, tip) < 0) & (organs[2] < 110)),
        (Tissue.VENA_CAVA, veins),
        (Tissue.FLUID, gallbladder < 0),
        (Tissue.SPLEEN, spleen < 0),
        (Tissue.DESCENDING_AORTA, aorta < 0),
        (Tissue.VENA_CAVA, cava < 0),
    ]
    for sign, height in ((1, rng.normal(-42, 8)), (-1, rng.normal(-26, 8))):
        layers += kidney_layers(organs, sign, height, rng)
    return layers


def kidney_layers(organs: FloatArray, sign: int, height: float, rng: Random) -> list[Layer]:
    """A kidney in its fat: cortex, medulla, and the sinus; `sign` is 1 on the patient's right and -1 on the left."""
    axes = rotation((0, 1, 0), sign * 0.28) @ rotation((1, 0, 0), 0.2)
    center = np.array([sign * rng.normal(62, 4), -42 + rng.normal(0, 4), height])
    radii = np.clip(rng.normal((26, 23, 54), (2.5, 2.5, 4)), (20, 18, 44), (33, 30, 66))
    outer = ellipsoid(organs, center, radii, axes)
    inner = ellipsoid(organs, center, radii - 8, axes)
    sinus = ellipsoid(organs, center - (sign * 0.55 * radii[0], -4, 0), (14, 10, 22), axes)
    return [
        (Tissue.VISCERAL_FAT, outer < rng.uniform(3, 9)),
        (Tissue.KIDNEY_CORTEX, outer < 0),
        (Tissue.KIDNEY_MEDULLA, inner < 0),
        (Tissue.VISCERAL_FAT, sinus < 0),
    ]


def spine_layers(points: FloatArray, body: FloatArray, rng: Random) -> list[Layer]:
    """Muscles beside the spine, vertebrae, the spinal canal, ribs and the wings of the pelvis."""
    x, y, z = points
    spine = np.hypot(x - rng.normal(0, 3), y + 62) - rng.normal(22, 1.5)
    disk = np.mod(z + rng.uniform(0, 34), 34) < 7
    psoas = _either_side(points, (34, -52, -110), (20, 20, 90), rng)
    back = _either_side(points, (38, -88, -40), (30, 17, 240), rng)
    wing = _either_side(points, (105, -30, -190), (12, 60, 52), rng)
    cage = (body > 0.62) & (body < rng.uniform(0.72, 0.78)) & (z > -10)
    rib = cage & (np.mod(z + 0.35 * np.abs(x) + rng.uniform(0, 28), 28) < 8)
    return [
        (Tissue.MUSCLE, (psoas | back) & (body < 0.9)),
        (Tissue.BONE, (spine < 0) | rib | wing),
        (Tissue.MARROW, spine < -3),
        (Tissue.MUSCLE, (spine < 0) & disk),
        (Tissue.FLUID, np.hypot(x, y + 92) < 8),
    ]


def _either_side(
    points: FloatArray, center: tuple[int, int, int], radii: tuple[int, int, int], rng: Random
) -> BoolArray:
    scale = rng.normal(1, 0.08)
    x, y, z = center
    sides = [ellipsoid(points, (sign * x, y, z), np.array(radii) * scale) for sign in (1, -1)]
    return np.asarray(np.minimum(*sides) < 0)
