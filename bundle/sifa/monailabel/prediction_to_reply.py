"""The last step of postprocessing in a MONAI Label server: what was predicted goes into the reply."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from sifa.monailabel.predicting_inferer import PREDICTION


class PredictionToReplyd(MapTransform):
    """Adds the prediction in the metadata of a mask to what MONAI Label replies, and stores with the mask, as JSON.

    Args:
        keys: masks of `PredictingInferer`.
        result: entry of an item that holds the reply.
    """

    def __init__(self, keys: KeysCollection, result: str = "result") -> None:
        super().__init__(keys)
        self.result = result

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns `data` with the prediction, if there is one, in its reply."""
        item = dict(data)
        for key in self.key_iterator(item):
            if prediction := item[key].meta.get(PREDICTION):
                item[self.result] = {**item.get(self.result, {}), **prediction}
        return item
