"""Wraps MONAI Label's server so that its replies to errors are one sentence: `--uvicorn_app plain_replies:app`.

The app gets one more strategy of active learning, too.

MONAI Label itself replies `Internal Server Error` to every request that fails, and some replies are wrong: it continues
with random weights if the weights file is gone, and with the preprocessing of the weights that it was started with if
they were replaced.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from fastapi import Request
from fastapi.responses import JSONResponse
from lowest_predicted_dice import NAME, LowestPredictedDice
from monailabel.app import app
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["app"]

NAMES_SHOWN = 5
INTERNAL_ERROR = 500
MODELS = Path(settings.MONAI_LABEL_APP_DIR) / "model"
FINGERPRINTS = {path.parents[1].name: path.read_bytes() for path in MODELS.glob("*/models/fingerprint.json")}

logger = logging.getLogger(__name__)


class RefusalError(Exception):
    """A request that cannot be fulfilled: HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class PlainReplies:
    """Replies to refused and failed requests with `{"detail": sentence}`, which is logged as well.

    Args:
        server: the application that it wraps.
    """

    def __init__(self, server: ASGIApp) -> None:
        self.server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks a request and passes it on; an error before the reply has begun becomes the reply."""
        begun = False

        async def watched_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if scope["type"] == "http" and scope["method"] == "POST":
                request, given = Request(scope, receive), {}
                if takes_options(scope["path"]):
                    given = await options(request)
                    receive = read_again(await request.body(), receive)
                check(scope["path"], request.query_params.get("image", ""), given)
            await self.server(scope, receive, watched_send)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            status, sentence = explain(error)
            details = error if status == INTERNAL_ERROR else None
            logger.error("%s %s: %s", scope["method"], scope["path"], sentence, exc_info=details)
            await JSONResponse({"detail": sentence}, status_code=status)(scope, receive, send)


app.add_middleware(PlainReplies)
app_instance()._strategies[NAME] = LowestPredictedDice(MODELS)  # the app has no public way to add one


def takes_options(path: str) -> bool:
    """Returns whether a request's body is a JSON object of options."""
    return path.startswith(("/train/", "/batch/infer/"))


def read_again(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that replays a body that was already read, then continues."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def check(path: str, image: str, given: dict[str, Any]) -> None:
    """Refuses inference, batch inference and training that would fail or mislead.

    Args:
        path: path of the request.
        image: the scan that it names, if any.
        given: options of the request.

    Raises:
        RefusalError: with the sentence that says what to change.
    """
    task, _, model = path.strip("/").rpartition("/")
    instance = app_instance()
    if task in ("infer", "batch/infer"):
        check_name(model, instance.info()["models"], instance)
        check_weights(model)
    if task == "infer":
        check_image(image, instance)
    if task == "batch/infer" and given.get("multi_gpu", True) and not torch.cuda.is_available():
        raise RefusalError(400, 'this machine has no GPU to share the scans: add "multi_gpu": false to the request.')
    if task == "train":
        check_name(model, instance.info()["trainers"], instance)
        check_training(model, given, instance)


def check_name(model: str, models: dict[str, Any], instance: Any) -> None:
    """Refuses a model that does not exist."""
    if model in models:
        return
    if (MODELS / model).is_dir() and model in instance.info()["trainers"]:
        raise RefusalError(
            409, f"{model} had no weights when the server was started: put them there and start it again."
        )
    raise RefusalError(404, f"there is no model {model!r} on this server: choose {shown(models)}.")


def check_weights(model: str) -> None:
    """Refuses to segment without weights, or with weights that belong to another fingerprint."""
    folder = MODELS / model / "models"
    for name in ("model.pt", "fingerprint.json"):
        if not (folder / name).is_file():
            raise RefusalError(
                409, f"{model} has no weights: {folder / name} is gone; put it back, or start the server again."
            )
    if (folder / "fingerprint.json").read_bytes() != FINGERPRINTS.get(model):
        raise RefusalError(
            409, f"the fingerprint.json of {model} is another since the server was started: start it again."
        )


def check_image(image: str, instance: Any) -> None:
    """Refuses a scan that is neither among the studies nor a path on the server."""
    datastore = instance.datastore()
    if not image or os.path.exists(image) or not isinstance(datastore, LocalDatastore):
        return
    if not datastore.get_image_uri(image):
        raise RefusalError(
            404, f"there is no scan {image!r} among the studies: they hold {shown(datastore.list_images())}."
        )


def check_training(model: str, given: dict[str, Any], instance: Any) -> None:
    """Refuses requests that would end in an error of MONAI Label itself or train nothing."""
    missing = [name for name in ("target_dir", "install_weights") if name not in given]
    if missing and missing[0] in instance.info()["trainers"][model]["config"]:
        raise RefusalError(400, f"the request lacks {' and '.join(missing)}: see /info/, trainers, {model}, config.")
    if not given.get("pretrained", True):
        raise RefusalError(400, 'MONAI Label fails with "pretrained": false: send "model_filename": "none" instead.')
    if given.get("multi_gpu", True) and torch.cuda.device_count() > 1:
        raise RefusalError(
            400, 'this bundle has no training on several GPUs here: add "multi_gpu": false to the request.'
        )


async def options(request: Request) -> dict[str, Any]:
    """Returns the options of a request: its body, a JSON object or nothing."""
    body = await request.body()
    try:
        given = json.loads(body) if body else {}
    except ValueError as error:
        raise RefusalError(400, f"the request is not valid JSON ({error}).") from error
    if not isinstance(given, dict):
        raise RefusalError(400, "the request is not a JSON object.")
    return given


def explain(error: BaseException) -> tuple[int, str]:
    """Returns HTTP status and sentence for an error: that of the bundle, else of MONAI Label, else of its cause."""
    if isinstance(error, RefusalError):
        return error.status, str(error)
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    for one in chain:
        if type(one).__name__ == "InputError":  # of the bundle in use, which is imported with its model
            return 400, str(one)
        if isinstance(one, MONAILabelException):
            return 400, f"{str(one.msg).rstrip('.')}."
    cause = next((one for one in reversed(chain) if str(one)), error)
    first_line = str(cause).strip().splitlines()[0].rstrip(".") if str(cause).strip() else "no message"
    return INTERNAL_ERROR, f"the server could not do this ({type(cause).__name__}: {first_line})."


def shown(names: Any) -> str:
    """Returns the first few names, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more if names else "none"
