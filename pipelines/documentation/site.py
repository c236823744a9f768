"""A hook of MkDocs: links to files outside of docs become their paths, for the site lacks them."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page.

    Args:
        markdown: its text.
        page: knows where its file lies.
    """
    return inside_only(markdown, page.file.src_uri)


def inside_only(markdown: str, place: str) -> str:
    """The text with each link that leaves docs, or leads to an example, as text and path.

    Args:
        markdown: the text.
        place: the page's file, below docs.
    """

    def shown(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(place), link[2]))
        if path.startswith("docs/") and not path.startswith("docs/examples"):
            return link[0]
        name = link[1].strip("`")
        return f"`{path}`" if path.endswith(name) else f"{link[1]} (`{path}`)"

    return _LINK.sub(shown, markdown)
