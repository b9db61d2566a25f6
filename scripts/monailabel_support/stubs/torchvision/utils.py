"""The two functions that MONAI Label imports; it calls them only where its own sample apps train."""

from __future__ import annotations

from typing import Any, NoReturn


def make_grid(*arguments: Any, **options: Any) -> NoReturn:
    """Refuses to draw."""
    raise NotImplementedError("torchvision is not installed: this is the stand-in of scripts/monailabel.sh.")


save_image = make_grid
