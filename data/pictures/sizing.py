"""How a picture of any size is brought to the size that training and evaluation work at."""

from __future__ import annotations

from steadypix.sizes import Size, words

# square: both sides become the load size, as in pix2pix. keep: the shorter side does, and the aspect stays.
# none: the picture is taken as it is.
RULES = ("square", "keep", "none")


def sides_after(height: int, width: int, size: int, rule: str) -> tuple[int, int]:
    """Return height and width in px of a picture that one of `RULES` brings to the load size `size`.

    >>> sides_after(207, 301, 286, "keep")
    (286, 416)
    """
    if rule == "square":
        return size, size
    if rule == "none":
        return height, width
    if height <= width:
        return size, round(size * width / height)
    return round(size * height / width), size


def rule_words(rule: str, size: Size) -> str:
    """Return what one of `RULES` does at the load size `size`, after the word `pictures`."""
    return {
        "square": f"resized to {size} x {size} px (resize square)",
        "keep": f"resized to {size} px along the shorter side (resize keep)",
        "none": f"as they are, {words(size)} px at least (resize none)",
    }[rule]
