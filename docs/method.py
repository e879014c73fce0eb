"""Draws the two heads side by side: docs/method.svg.

python docs/method.py
"""

from html import escape
from pathlib import Path

WIDTH, HEIGHT, BOX, TALL = 960, 384, 132, 46
STYLE = """
  rect { rx: 6; } text { font: 14px sans-serif; text-anchor: middle; fill: #1a1a1a; }
  .page { fill: #ffffff; } .title { font-weight: bold; font-size: 15px; text-anchor: start; }
  .part { fill: #e8eef7; stroke: #4a6a94; } .new { fill: #fbe9d3; stroke: #b56a12; }
  .note { font-size: 12px; fill: #555555; } path { stroke: #333333; fill: none; }
"""
LFI = (
    ("image", 76, 84, "part"), ("backbone", 236, 84, "part"), ("F", 396, 84, "part"),
    ("(1 + A) F", 716, 84, "part"), ("pool, linear", 876, 84, "part"),
    ("FIN → softmax_d", 396, 166, "new"), ("A = min-max ReLU Σ_d α_d F_d", 610, 166, "new"),
)  # fmt: skip
CLASSWISE = (
    ("image", 76, 268, "part"), ("backbone", 236, 268, "part"), ("F", 396, 268, "part"),
    ("E_c = Σ_d w_dc F_d", 556, 268, "new"), ("(1 + A_c) E_c", 716, 268, "part"),
    ("pool, + b_c", 876, 268, "part"), ("A_c = min-max ReLU E_c", 636, 350, "new"),
)  # fmt: skip
ARROWS = (
    "M142 84H170", "M302 84H330", "M462 84H650", "M782 84H810", "M396 107V143", "M462 166H498",
    "M690 143L716 109", "M76 107V166H330", "M142 268H170", "M302 268H330", "M462 268H484",
    "M628 268H650", "M782 268H810", "M570 291L606 325", "M680 327L706 293",
)  # fmt: skip
TITLES = (
    ("LFI-CAM: one map, its channels weighed by a network that sees grey image × F", 36),
    ("Classwise LFI-CAM: a map of each class, its channels weighed by the classifier", 232),
)


def box(label: str, x: int, y: int, kind: str) -> str:
    """Returns a box with its label, centred at x and y."""
    wide = max(BOX, 8 * len(label))
    return (
        f'<rect class="{kind}" x="{x - wide // 2}" y="{y - TALL // 2}" width="{wide}" '
        f'height="{TALL}"/><text x="{x}" y="{y + 5}">{escape(label)}</text>'
    )


def main() -> None:
    """Writes the picture beside this file."""
    body = [box(*one) for one in (*LFI, *CLASSWISE)]
    body += [f'<path d="{line}" marker-end="url(#tip)"/>' for line in ARROWS]
    body += [f'<text class="title" x="10" y="{y}">{escape(words)}</text>' for words, y in TITLES]
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    tip += 'orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#333;stroke:none"/></marker>'
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">\n'
        f"<style>{STYLE}</style><defs>{tip}</defs>\n"
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>\n' + "\n".join(body) + "\n</svg>\n"
    )
    Path(__file__).with_suffix(".svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
