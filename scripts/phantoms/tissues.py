"""What voxels are made of, and how bright it is in each modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from phantoms.geometry import BoolArray, Random, Vector

Tissues = npt.NDArray[np.uint8]


class Tissue(IntEnum):
    """What a voxel is made of."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    LUNG = 3
    LUNG_VESSEL = 4
    LIVER = 5
    STOMACH = 6  # wall and content
    BONE = 7
    MARROW = 8
    PERICARDIAL_FAT = 9
    MYOCARDIUM = 10
    RIGHT_WALL = 11
    LEFT_VENTRICLE = 12
    LEFT_ATRIUM = 13
    PULMONARY_VEIN = 14
    ASCENDING_AORTA = 15
    DESCENDING_AORTA = 16  # with the arch
    RIGHT_VENTRICLE = 17
    RIGHT_ATRIUM = 18
    PULMONARY_ARTERY = 19
    VENA_CAVA = 20
    SCAR = 21  # of the myocardium
    NO_REFLOW = 22  # core of a scar without blood flow
    SPLEEN = 23
    KIDNEY_CORTEX = 24
    KIDNEY_MEDULLA = 25
    FLUID = 26  # bile, urine, cerebrospinal fluid
    PANCREAS = 27
    BOWEL_WALL = 28
    BOWEL_CONTENT = 29
    VISCERAL_FAT = 30


Layer = tuple[Tissue, BoolArray]

LEFT_BLOOD = [tissue for tissue in Tissue if Tissue.LEFT_VENTRICLE <= tissue <= Tissue.DESCENDING_AORTA]
RIGHT_BLOOD = [tissue for tissue in Tissue if Tissue.RIGHT_VENTRICLE <= tissue <= Tissue.VENA_CAVA]
BLOOD = LEFT_BLOOD + RIGHT_BLOOD
HEART_TISSUES = [tissue for tissue in Tissue if tissue <= Tissue.VENA_CAVA]
SHORT_AXIS_TISSUES = [tissue for tissue in Tissue if tissue <= Tissue.NO_REFLOW]
ABDOMEN_TISSUES = [
    *(Tissue.AIR, Tissue.FAT, Tissue.MUSCLE, Tissue.LUNG, Tissue.LUNG_VESSEL, Tissue.LIVER, Tissue.STOMACH),
    *(Tissue.BONE, Tissue.MARROW, Tissue.MYOCARDIUM, Tissue.DESCENDING_AORTA, Tissue.VENA_CAVA),
    *(tissue for tissue in Tissue if tissue >= Tissue.SPLEEN),
]

# Mean and standard deviation over subjects, by tissue.
Contrast = Mapping[Tissue, tuple[float, float]]

# Balanced steady-state free precession, in arbitrary units. For blood, a factor on the subject's blood signal.
BSSFP: Contrast = {
    Tissue.AIR: (0.03, 0.01),
    Tissue.FAT: (0.88, 0.08),
    Tissue.MUSCLE: (0.30, 0.04),
    Tissue.LUNG: (0.07, 0.02),
    Tissue.LUNG_VESSEL: (0.35, 0.10),
    Tissue.LIVER: (0.42, 0.06),
    Tissue.STOMACH: (0.55, 0.15),
    Tissue.BONE: (0.10, 0.03),
    Tissue.MARROW: (0.48, 0.08),
    Tissue.PERICARDIAL_FAT: (0.80, 0.08),
    Tissue.MYOCARDIUM: (0.36, 0.04),
    Tissue.RIGHT_WALL: (0.36, 0.04),
    Tissue.LEFT_VENTRICLE: (1.00, 0.00),
    Tissue.LEFT_ATRIUM: (0.95, 0.05),
    Tissue.PULMONARY_VEIN: (0.95, 0.05),
    Tissue.ASCENDING_AORTA: (0.88, 0.08),
    Tissue.DESCENDING_AORTA: (0.85, 0.10),
    Tissue.RIGHT_VENTRICLE: (0.95, 0.06),
    Tissue.RIGHT_ATRIUM: (0.92, 0.06),
    Tissue.PULMONARY_ARTERY: (0.80, 0.10),
    Tissue.VENA_CAVA: (0.85, 0.10),
    Tissue.SCAR: (0.38, 0.04),  # nearly as myocardium: this sequence does not show it
    Tissue.NO_REFLOW: (0.36, 0.04),
}

# Late gadolinium enhancement: the inversion time nulls myocardium; scar is as bright as blood, or brighter.
LGE: Contrast = {
    Tissue.AIR: (0.03, 0.01),
    Tissue.FAT: (0.85, 0.10),
    Tissue.MUSCLE: (0.22, 0.05),
    Tissue.LUNG: (0.07, 0.02),
    Tissue.LUNG_VESSEL: (0.40, 0.10),
    Tissue.LIVER: (0.42, 0.08),
    Tissue.STOMACH: (0.35, 0.15),
    Tissue.BONE: (0.10, 0.03),
    Tissue.MARROW: (0.50, 0.10),
    Tissue.PERICARDIAL_FAT: (0.80, 0.10),
    Tissue.MYOCARDIUM: (0.10, 0.04),
    Tissue.RIGHT_WALL: (0.14, 0.05),
    Tissue.LEFT_VENTRICLE: (1.00, 0.00),
    Tissue.LEFT_ATRIUM: (1.00, 0.06),
    Tissue.PULMONARY_VEIN: (1.00, 0.06),
    Tissue.ASCENDING_AORTA: (0.95, 0.08),
    Tissue.DESCENDING_AORTA: (0.95, 0.08),
    Tissue.RIGHT_VENTRICLE: (0.95, 0.08),
    Tissue.RIGHT_ATRIUM: (0.95, 0.08),
    Tissue.PULMONARY_ARTERY: (0.90, 0.10),
    Tissue.VENA_CAVA: (0.95, 0.10),
    Tissue.SCAR: (0.82, 0.10),
    Tissue.NO_REFLOW: (0.12, 0.04),
}

# T1-weighted gradient echo, in phase: fat is brightest, fluid is dark.
MR_T1: Contrast = {
    Tissue.AIR: (0.03, 0.01),
    Tissue.FAT: (0.92, 0.06),
    Tissue.MUSCLE: (0.42, 0.05),
    Tissue.LUNG: (0.07, 0.02),
    Tissue.LUNG_VESSEL: (0.25, 0.08),
    Tissue.LIVER: (0.62, 0.06),
    Tissue.STOMACH: (0.30, 0.12),
    Tissue.BONE: (0.12, 0.03),
    Tissue.MARROW: (0.55, 0.08),
    Tissue.MYOCARDIUM: (0.40, 0.05),
    Tissue.DESCENDING_AORTA: (0.30, 0.10),
    Tissue.VENA_CAVA: (0.30, 0.10),
    Tissue.SPLEEN: (0.42, 0.05),
    Tissue.KIDNEY_CORTEX: (0.52, 0.05),
    Tissue.KIDNEY_MEDULLA: (0.38, 0.05),
    Tissue.FLUID: (0.18, 0.05),
    Tissue.PANCREAS: (0.60, 0.06),
    Tissue.BOWEL_WALL: (0.42, 0.05),
    Tissue.BOWEL_CONTENT: (0.40, 0.18),
    Tissue.VISCERAL_FAT: (0.90, 0.06),
}

# T2-weighted with suppressed fat: fluid is brightest, flowing blood is dark.
MR_T2: Contrast = {
    Tissue.AIR: (0.03, 0.01),
    Tissue.FAT: (0.16, 0.05),
    Tissue.MUSCLE: (0.20, 0.04),
    Tissue.LUNG: (0.05, 0.02),
    Tissue.LUNG_VESSEL: (0.15, 0.05),
    Tissue.LIVER: (0.34, 0.05),
    Tissue.STOMACH: (0.60, 0.25),
    Tissue.BONE: (0.06, 0.02),
    Tissue.MARROW: (0.22, 0.05),
    Tissue.PERICARDIAL_FAT: (0.18, 0.05),
    Tissue.MYOCARDIUM: (0.46, 0.05),
    Tissue.RIGHT_WALL: (0.42, 0.05),
    Tissue.LEFT_VENTRICLE: (0.18, 0.05),
    Tissue.LEFT_ATRIUM: (0.18, 0.05),
    Tissue.PULMONARY_VEIN: (0.15, 0.05),
    Tissue.ASCENDING_AORTA: (0.12, 0.04),
    Tissue.DESCENDING_AORTA: (0.10, 0.04),
    Tissue.RIGHT_VENTRICLE: (0.20, 0.06),
    Tissue.RIGHT_ATRIUM: (0.18, 0.06),
    Tissue.PULMONARY_ARTERY: (0.12, 0.04),
    Tissue.VENA_CAVA: (0.14, 0.05),
    Tissue.SCAR: (0.62, 0.10),
    Tissue.NO_REFLOW: (0.46, 0.08),
    Tissue.SPLEEN: (0.66, 0.07),
    Tissue.KIDNEY_CORTEX: (0.68, 0.06),
    Tissue.KIDNEY_MEDULLA: (0.80, 0.06),
    Tissue.FLUID: (1.10, 0.08),
    Tissue.PANCREAS: (0.42, 0.06),
    Tissue.BOWEL_WALL: (0.38, 0.06),
    Tissue.BOWEL_CONTENT: (0.65, 0.25),
    Tissue.VISCERAL_FAT: (0.16, 0.05),
}

# CT in HU; for blood of the heart, what is added to the subject's contrast level of the left or right heart.
CT: Contrast = {
    Tissue.AIR: (-1000, 0),
    Tissue.FAT: (-100, 8),
    Tissue.MUSCLE: (55, 8),
    Tissue.LUNG: (-830, 25),
    Tissue.LUNG_VESSEL: (-50, 100),
    Tissue.LIVER: (95, 15),
    Tissue.STOMACH: (75, 35),
    Tissue.BONE: (480, 60),
    Tissue.MARROW: (190, 40),
    Tissue.PERICARDIAL_FAT: (-85, 10),
    Tissue.MYOCARDIUM: (105, 12),
    Tissue.RIGHT_WALL: (105, 12),
    Tissue.LEFT_VENTRICLE: (0, 15),
    Tissue.LEFT_ATRIUM: (0, 15),
    Tissue.PULMONARY_VEIN: (0, 15),
    Tissue.ASCENDING_AORTA: (0, 15),
    Tissue.DESCENDING_AORTA: (-5, 15),
    Tissue.RIGHT_VENTRICLE: (0, 15),
    Tissue.RIGHT_ATRIUM: (0, 20),
    Tissue.PULMONARY_ARTERY: (20, 20),
    Tissue.VENA_CAVA: (275, 130),
}

# CT of the abdomen in the portal venous phase, in HU.
PORTAL_CT: Contrast = {
    Tissue.AIR: (-1000, 0),
    Tissue.FAT: (-105, 8),
    Tissue.MUSCLE: (60, 7),
    Tissue.LUNG: (-830, 25),
    Tissue.LUNG_VESSEL: (-20, 60),
    Tissue.LIVER: (108, 14),
    Tissue.STOMACH: (35, 45),
    Tissue.BONE: (480, 60),
    Tissue.MARROW: (190, 40),
    Tissue.MYOCARDIUM: (110, 15),
    Tissue.DESCENDING_AORTA: (165, 25),
    Tissue.VENA_CAVA: (150, 25),
    Tissue.SPLEEN: (120, 14),
    Tissue.KIDNEY_CORTEX: (185, 22),
    Tissue.KIDNEY_MEDULLA: (165, 25),
    Tissue.FLUID: (10, 8),
    Tissue.PANCREAS: (95, 12),
    Tissue.BOWEL_WALL: (80, 12),
    Tissue.BOWEL_CONTENT: (40, 70),
    Tissue.VISCERAL_FAT: (-95, 8),
}


def draw_levels(contrast: Contrast, tissues: Sequence[Tissue], rng: Random) -> Vector:
    """Draws a subject's level of each of the tissues; 0 for all others."""
    levels = np.zeros(len(Tissue))
    for tissue in tissues:
        levels[tissue] = rng.normal(*contrast[tissue])
    return levels


def cover(shape: tuple[int, int, int], layers: Iterable[Layer]) -> Tissues:
    """Returns the tissues that layers leave visible: each covers the earlier ones; air where there is none."""
    tissues = np.full(shape, Tissue.AIR, dtype=np.uint8)
    for tissue, mask in layers:
        tissues[mask] = tissue
    return tissues
