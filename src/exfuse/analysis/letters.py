"""Letters of any language in figures and pictures: the fonts that are looked through, and one line where none has them."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from matplotlib import get_cachedir
from matplotlib.font_manager import get_font_names

from exfuse.errors import complain

# What matplotlib brings, then fonts that have Chinese, Japanese and Korean letters, of those that this machine has.
_LATIN = "DejaVu Sans"
_WIDE = (
    *(f"Noto Sans CJK {place}" for place in ("SC", "TC", "JP", "KR")),
    *("Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
)
_NO_GLYPH = r"Glyph (\d+) .* missing from"


@cache
def families() -> list[str]:
    """Fonts in the order in which a letter is looked for; the second is there for letters that the first has not."""
    known = {*get_font_names()}
    return [_LATIN, *(name for name in _WIDE if name in known)]


@contextmanager
def letters_told(name: str) -> Iterator[None]:
    """Say once which letters of the figure that is drawn inside no font has, in place of a warning for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", _NO_GLYPH)
        yield
    absent = []
    for one in caught:
        if found := re.match(_NO_GLYPH, str(one.message)):
            absent.append(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if absent:
        letters = "".join(dict.fromkeys(absent))
        complain(
            f"{name}: no font that is looked through has {letters}: boxes stand for them. Chinese, Japanese and Korean "
            f"come with fonts-noto-cjk; delete {get_cachedir()} then, where matplotlib keeps the list of fonts.",
            "Warning",
        )
