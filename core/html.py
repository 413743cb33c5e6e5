"""Self-contained HTML pages: one style, pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { margin-top: 2.2rem; font-size: 1.2rem }
img { max-width: 100%; border-radius: 6px } .strip { display: flex; gap: 4px; overflow-x: auto }
.strip img { width: 96px; height: 96px; image-rendering: auto }
figure { margin: 0.8rem 0 } figcaption { font-size: 0.9rem; opacity: 0.8 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: 0.25rem 0.7rem 0.25rem 0;
border-bottom: 1px solid var(--line) } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.7rem }
.card { background: var(--soft); border-radius: 8px; padding: 0.7rem 0.9rem } .card b { display: block;
font-size: 1.5rem } .card small { opacity: 0.75 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
gap: 1rem } .plots img, .plot img { background: #fff }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 0.8rem }
.tiles figure { margin: 0 } .tiles img { width: 100%; max-width: 160px }
code { background: var(--soft); padding: 0.1rem 0.3rem; border-radius: 4px }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a page with `title`, which is escaped, and the HTML of `parts`."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def picture(data: bytes, kind: str, alt: str) -> str:
    """Return an image element that holds the bytes of a file; `kind` is png or jpeg."""
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """Return headline figures: name, value and a remark, which may be empty."""
    cells = "".join(
        f'<div class="card">{html.escape(name)}<b>{html.escape(value)}</b><small>{html.escape(remark)}</small></div>'
        for name, value, remark in values
    )
    return f'<div class="cards">{cells}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. The first column is text, the others are numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        marks = ["", *[' class="n"'] * (len(cells) - 1)]
        return "".join(f"<{tag}{mark}>{html.escape(c)}</{tag}>" for c, mark in zip(cells, marks, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>{body}</table>"
