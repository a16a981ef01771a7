"""Graph texts with changes by chance, put to every command: see `tests/fuzzing.py`."""

import random
import re
import shutil
from pathlib import Path

from tests.fuzzing import every_command

DOCUMENTED = ()
GOLDEN = Path(__file__).parents[1] / "golden"

_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|[%@][\w./:-]*\w|-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[A-Za-z_]\w*|<-|\S', re.ASCII
)
_NUMBERS = ("0", "1", "-1", "2", "3", "7", "64", "4096", "65537", "2147483648", "1099511627776", "1e30", "0.5", "nan")
_SYMBOLS = ("S", "B", "{2*S - 1}", "{floordiv(B, 2)}")
_WORDS = ("true", "none", '"x"', '"f32"', '"q4_0"', "[0, 1]", "[]", *_SYMBOLS, "f32", "i64")
_OPS = "add reshape linear split concat gather softmax iota broadcast_to slice if cast".split()


def attempt(seed: int, folder: Path) -> None:
    """Put the mutant of a golden graph to every command."""
    source, out = folder / "mutant.graph", folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    source.write_text(mutant(seed), "utf-8", "surrogatepass")
    every_command(source, out)


def mutant(seed: int) -> str:
    """The text of one mutant."""
    rng = random.Random(seed)
    return mutated(rng.choice(sorted(GOLDEN.glob("*/*.graph"))).read_text("utf-8"), rng)


def mutated(text: str, rng: random.Random) -> str:
    """The text with one or two changes: lines removed or doubled, tokens swapped, removed, renumbered, retyped.

    A number or a name is as often replaced everywhere, so that what comes of it is sound by the rules of types.
    """
    for _ in range(rng.randint(1, 2)):
        lines = text.splitlines(keepends=True)
        spans = [m.span() for m in _TOKEN.finditer(text)]
        if not spans:
            return text
        start, end = rng.choice(spans)
        match rng.choice((0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 8, 9, 9)):
            case 0:
                del lines[rng.randrange(len(lines))]
                text = "".join(lines)
            case 1:
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "".join(lines)
            case 2:
                a, b = sorted(rng.sample(spans, 2)) if len(spans) > 1 else (spans[0], spans[0])
                text = text[: a[0]] + text[slice(*b)] + text[a[1] : b[0]] + text[slice(*a)] + text[b[1] :]
            case 3:
                text = text[:start] + text[end:]
            case 4:
                numbers = [s for s in spans if text[s[0]].isdigit()] or [(start, end)]
                start, end = rng.choice(numbers)
                text = text[:start] + rng.choice(_NUMBERS) + text[end:]
            case 5:
                values = [m.span(1) for m in re.finditer(r"\w=(\[[^\]\n]*\]|[^,)\n]+)", text)] or [(start, end)]
                start, end = rng.choice(values)
                text = text[:start] + rng.choice(_NUMBERS + _WORDS) + text[end:]
            case 6:
                ops = [m.span(1) for m in re.finditer(r" = (\w+)\(", text)] or [(start, end)]
                start, end = rng.choice(ops)
                text = text[:start] + rng.choice(_OPS) + text[end:]
            case 8:
                numbers = sorted(set(re.findall(r"(?<![\w.@%-])\d+(?![\w.])", text))) or ["0"]
                text = re.sub(rf"(?<![\w.@%-]){rng.choice(numbers)}(?![\w.])", rng.choice(_NUMBERS), text)
            case 9:
                names = sorted(set(re.findall(r"(?<=[\[ ])(?:[BSCT]|[a-z]+\d+)(?=[\],\[])", text))) or ["B"]
                text = re.sub(
                    rf"\b{rng.choice(names)}\b", rng.choice(("f16", "i32", "q4_0", "B", "S", "1", "5", "{2*S}")), text
                )
            case _:
                text = text[:start] + rng.choice(["\0", "\ud800", "}", "(", '"', "é", "#", "\x1b"]) + text[start:]
    return text
