"""The table of kernels: what is found, and the reasons where nothing is."""

import subprocess
import sys

import pytest

from burnish.backends.kernels import KERNELS, Kernel, find_kernel, layouts_for, linear
from burnish.backends.native import cpu
from burnish.ir.op import Op, find_op
from burnish.ir.types import Type

BOTH = cpu.INSTRUCTION_SETS
LINEAR = find_op("linear")(to="f32")
X = Type("int8_32", (3, 64))


def weights(layout: str) -> Type:
    return Type("q4_0", (5, 64), layout)


W = weights("tiles16")


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(linear, "instruction_sets", lambda: request.param)


@pytest.mark.parametrize("sets", [BOTH, BOTH[1:]], indirect=True, ids=["both", "avx2"])
def test_the_kernel_for_tiled_weights_is_found(sets: None) -> None:
    """In tiles of the best instruction set: compiled code is of one."""
    w = weights(linear.instruction_sets()[0].layout)
    assert find_kernel(LINEAR, [X, w]).kernel is KERNELS["linear.int8"]
    assert find_kernel(LINEAR, [X, w, Type("bf16", (5,))]).why_not == ""


@pytest.mark.parametrize(
    ("sets", "operands", "reason"),
    [
        (BOTH, [X, Type("f32", (5, 64))], "linear.int8: w is f32[5, 64], not quantized"),
        (BOTH, [X, Type("q4_0", (5, 64))], "linear.int8: w is q4_0[5, 64], not in the layout tiles16"),
        (BOTH[1:], [X, Type("q4_0", (5, 64), "tiles16")], "w is q4_0.tiles16[5, 64], not in the layout tiles8"),
        (BOTH, [Type("bf16", (3, 64)), W], "linear.int8: x is bf16[3, 64], not int8_32"),
        (BOTH, [Type("int8_32", (3, 64), "planes"), W], "x is int8_32.planes[3, 64], not int8_32"),
        ((), [X, W], "linear.int8: this CPU has none of avx512_vnni, avx2"),
    ],
    indirect=["sets"],
    ids=["weights", "layout", "other lanes", "activations", "layout of activations", "cpu"],
)
def test_a_refusal_has_a_reason(sets: None, operands: list[Type], reason: str) -> None:
    kernel, why_not = find_kernel(LINEAR, operands)
    assert kernel is None
    assert reason in why_not


def test_an_op_without_kernels_says_so() -> None:
    assert find_kernel(find_op("selective_scan")(), []) == (None, "no kernel runs selective_scan")


@pytest.mark.parametrize(
    ("sets", "layout"),
    [(BOTH, "tiles16"), (BOTH[1:], "tiles8"), ((), None)],
    indirect=["sets"],
    ids=["both", "avx2", "none"],
)
def test_the_layout_of_weights_is_that_of_the_best_instructions(sets: None, layout: str | None) -> None:
    layouts = layouts_for("linear")
    assert [layouts.get(format) for format in ("q4_0", "q6_k", "int4_128", "int8")] == [layout] * 4
    assert layouts_for("selective_scan") == {}


def test_a_kernel_is_registered_by_being_defined(registries: None) -> None:
    class Base(Kernel):
        op = "selective_scan"

        def why_not(self, op: Op, *operands: Type | None) -> str | None:
            return None

    assert not any(isinstance(k, Base) for k in KERNELS.values())

    class Scan(Base):
        name = "scan.fast"

    assert find_kernel(find_op("selective_scan")(), []).kernel is KERNELS["scan.fast"]

    class Faster(Base):
        name = "scan.faster"

        def layout_for(self, format: str) -> str | None:
            return {"q4_0": "planes"}.get(format)

    class Particular(Faster):
        name = "scan.particular"

        def why_not(self, op: Op, *operands: Type | None) -> str | None:
            return None if operands else "it has no operands"

        def layout_for(self, format: str) -> str | None:
            return {"q4_0": "tiles8", "q8_0": ""}.get(format)

    scan = find_op("selective_scan")()
    assert find_kernel(scan, []).kernel is KERNELS["scan.faster"], "the last one that can"
    assert find_kernel(scan, [X]).kernel is KERNELS["scan.particular"]
    assert layouts_for("selective_scan") == {"q4_0": "tiles8", "q8_0": ""}

    with pytest.raises(TypeError, match=r"'linear\.int8' is defined in"):

        class Again(Base):
            name = "linear.int8"


def test_importing_the_table_loads_no_compiler() -> None:
    code = "import burnish.backends.kernels as k, sys; k.layouts_for('linear'); print('numba' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"
