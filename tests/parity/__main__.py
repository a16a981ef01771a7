"""`python -m tests.parity [CLASS …]`: every model type against transformers; with `keys`, every field of its config;
with `plans`, what of it NumPy runs."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from burnish.frontends.checkpoint import load_checkpoint
from tests import models
from tests.parity.keys import FAULTS, Row, account, mixed
from tests.parity.laws import LAWS, XLA_LAWS
from tests.parity.model_type import ModelType
from tests.parity.plans import in_numpy
from tests.parity.types import TYPES


@click.command()
@click.argument("classes", nargs=-1)
@click.option("--xla", is_flag=True, help="On XLA too.")
@click.option("--keys", is_flag=True, help="Each field of the config changed in turn.")
@click.option("--plans", is_flag=True, help="What no compiled kernel runs, and of how many types.")
@click.option("--mixed", "number", type=int, default=0, help="So many configurations drawn by chance, of each type.")
@click.option("--seed", type=int, default=0, help="For what is drawn.")
@click.option("-v", "--verbose", is_flag=True, help="With --keys, what is as it should be too.")
def main(classes: Sequence[str], xla: bool, keys: bool, plans: bool, number: int, seed: int, verbose: bool) -> None:
    """Exit code 1 where anything differs."""
    chosen = [t for t in TYPES if not classes or any(c.lower() in t.cls.lower() for c in classes)]
    if plans:
        left = Counter(way for t in chosen for way in {w for v in t.variants for w in in_numpy(t, v)})
        print("\n".join(f"{n} of {len(chosen)}: {way}" for way, n in left.most_common()))
        sys.exit()
    if keys or number:
        rows = (mixed(t, number, seed) if number else account(t) for t in chosen)
        sys.exit(any([_outcomes(t, found, verbose) for t, found in zip(chosen, rows, strict=True)]))
    sys.exit(any([_parity(t, xla) for t in chosen]))


def _parity(type: ModelType, xla: bool) -> bool:
    bad = False
    for i, variant in enumerate(type.variants):
        with tempfile.TemporaryDirectory() as folder:
            oracle = type.made(variant)
            errors = []
            for name, law in {**LAWS, **(XLA_LAWS if xla else {})}.items():
                try:
                    error = law(load_checkpoint(oracle.saved(Path(folder), in_full=bool(i % 2))), oracle)
                except Exception as e:
                    error = float("inf")
                    print(f"{type.cls} {dict(variant)}, {name}: {e.__class__.__name__}: {e}")
                errors.append(error)
        bad |= not max(errors) < models.WITHIN
        told = "  ".join(f"{e:.1e}" for e in errors)
        print(f"{type.cls:36} {told}  {'' if max(errors) < models.WITHIN else 'WRONG'} {dict(variant)}", flush=True)
    return bad


def _outcomes(type: ModelType, rows: Sequence[Row], verbose: bool) -> bool:
    for row in rows:
        if verbose or row.outcome in FAULTS:
            print(row)
    counts = Counter(row.outcome for row in rows)
    print(f"{type.cls:36} " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())), flush=True)
    return any(row.outcome in FAULTS for row in rows)


if __name__ == "__main__":
    main()
