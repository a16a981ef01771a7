"""Every cell of the matrix is compared with its oracle, and the README's table says just what holds."""

import numpy as np
import pytest

from tests import matrix


@pytest.mark.slow
@pytest.mark.parametrize("backend", matrix.BACKENDS)
@pytest.mark.parametrize("row", [r for r in matrix.ROWS if (r.family, r.source) not in matrix.EMPTY], ids=str)
def test_cell(row, backend) -> None:
    for packaged in (False, True):
        assert matrix.error_of(row, backend, packaged) < matrix.PRECISIONS[row.precision][2]


def test_a_wrong_weight_shows_in_the_cell(monkeypatch) -> None:
    row = matrix.Row("Llama", "checkpoint", "f32")
    module = matrix.burnish.load(matrix.source_of("Llama", "checkpoint"))
    name = "model.layers.1.mlp.up_proj.weight"

    class Wrong:
        def read(self, tensor):
            return module.source.read(tensor) * np.float32(1.001 if tensor == name else 1)

    wrong = matrix.burnish.optimize(module)
    wrong.source = Wrong()
    monkeypatch.setattr(matrix, "module_of", lambda row, packaged: wrong)
    assert matrix.error_of(row, "NumPy", False) > matrix.PRECISIONS["f32"][2]


def test_the_readme_claims_what_holds() -> None:
    every = {(row, *cell): True for row in matrix.ROWS for cell in matrix.cells(row)}
    assert matrix.table(every) in (matrix.ROOT / "README.md").read_text(), "run `make matrix`"
