"""HTML pages from the templates beside this file; a page needs no other file and no network."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sifa.utils.files import write_text


def file_url(relative: str) -> str:
    """Returns the URL of a file, given its path relative to the page.

    It begins with `./`, so that no file name is taken for a host or a scheme.
    """
    return "./" + quote(os.fsencode(Path(relative).as_posix()))


def data_url(content: bytes, media_type: str) -> str:
    """Returns a URL that holds the content of an image itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def breakable(name: str) -> Markup:
    """Returns a name as HTML that a browser may break behind `_`, `/`, `-` and `.`, and nowhere else within a word."""
    return Markup(re.sub(r"([_/.-]+)(?=[^_/.-])", r"\1<wbr>", str(escape(name))))


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(file_url=file_url, data_url=data_url, breakable=breakable)


def write_page(path: Path, template: str, **content: Any) -> None:
    """Writes a page, whole or not at all.

    Args:
        path: the HTML file.
        template: name of a file in `templates/`.
        **content: what the template names. Bytes of file names that are not text become question marks.
    """
    page = ENVIRONMENT.get_template(template).render(content)
    write_text(path, page.encode("utf-8", "replace").decode())
