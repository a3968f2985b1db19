"""Plain data as short text: JSON, compressed, in base64, so that it is a string to whatever JSON holds it."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from pydantic_core import from_json

MOST = 64 * 2**20
"""Bytes that a text may come to: a few thousand damaged ones could otherwise fill the memory."""


def pack(content: Any) -> str:
    """`content`, plain data, as text."""
    return base64.b64encode(zlib.compress(json.dumps(content, separators=(",", ":")).encode())).decode()


def unpack(text: str) -> Any:
    """What was packed. Raises `ValueError` if the text is damaged."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(base64.b64decode(text, validate=True), MOST)
        if not decompressor.eof:
            raise ValueError("cut off, or too long")
        return from_json(content)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"packed text is damaged: {error}") from None
