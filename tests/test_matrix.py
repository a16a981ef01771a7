"""Every cell of the matrix is compared with its oracle, and the README's table says just what holds."""

import itertools

import numpy as np
import pytest

from tests import matrix

#: every source, precision and backend is in one of them, and the first families; the others are for `make parity`.
#: XLA, which takes seconds to compile, is given the package alone; it runs GGUF and Mixtral in tests/frontends.
SAMPLE = {
    (matrix.Row("Llama", "checkpoint", "q4_0 W4A8"), "XLA"),
    (matrix.Row("BERT", "ONNX", "f32"), "NumPy"),
    (matrix.Row("BERT", "checkpoint", "q8_0 W8A16"), "XLA"),
    (matrix.Row("T5", "checkpoint", "q4_0 W4A16"), "NumPy"),
    (matrix.Row("Mixtral", "checkpoint", "q4_0 W4A16"), "NumPy"),
    (matrix.Row("BART", "checkpoint", "f32"), "NumPy"),
    (matrix.Row("Llama", "GGUF", "as it is packed"), "NumPy"),
    (matrix.Row("Llama", "GPTQ", "as it is packed"), "NumPy"),
}
CELLS = [
    pytest.param(
        row,
        backend,
        packaged,
        marks=() if (row, backend) in SAMPLE and (packaged or backend == "NumPy") else pytest.mark.parity,
        id=f"{row}-{backend}{', package' * packaged}",
    )
    for row, backend, packaged in itertools.product(matrix.ROWS, matrix.BACKENDS, (False, True))
    if (row.family, row.source) not in matrix.EMPTY
]


@pytest.mark.slow
@pytest.mark.parametrize(("row", "backend", "packaged"), CELLS)
def test_cell(row, backend, packaged) -> None:
    assert matrix.error_of(row, backend, packaged) < matrix.PRECISIONS[row.precision][2]


def test_the_sample_has_one_of_each_kind() -> None:
    kinds = {kind for row, backend in SAMPLE for kind in (row.family, row.source, row.precision, backend)}
    assert kinds >= {*matrix.FAMILIES, *matrix.SOURCES, "GGUF", "GPTQ", *matrix.PRECISIONS, *matrix.BACKENDS}


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
