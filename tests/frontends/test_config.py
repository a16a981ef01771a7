"""Configs: what is asked for is of the type and in the range asked for, or the message says what is wrong where."""

import pytest

from burnish.frontends.config import Config, LoadError, parse_object, read_object


def short(value: object) -> str:
    return str(value)[:9]


CONFIG = Config({"n": 4, "x": 0.5, "f": True, "s": "silu", "o": {"k": 3}, "none": None, "h": 12}, "c.json")


def test_values_are_read() -> None:
    assert (CONFIG.integer("n"), CONFIG.number("x"), CONFIG.number("n"), CONFIG.flag("f", False)) == (4, 0.5, 4.0, True)
    assert CONFIG.choice("s", ["silu", "gelu"]) == "silu"
    assert CONFIG.section("o").integer("k") == 3
    assert CONFIG.quotient("h", "n") == 3


def test_null_is_as_good_as_missing() -> None:
    assert not CONFIG.has("none") and CONFIG.integer("none", 7) == 7
    assert CONFIG.section("none").values == {}
    with pytest.raises(LoadError, match=r"c\.json: none is missing"):
        CONFIG.integer("none")


@pytest.mark.parametrize("value", [True, 4.0, "4", [4], float("nan"), 0, -1, 1 << 25, 10**400], ids=short)
def test_what_is_no_integer_in_range(value) -> None:
    with pytest.raises(LoadError, match="n must be an integer from 1 to") as e:
        Config({"n": value}).integer("n")
    assert len(str(e.value)) < 200


@pytest.mark.parametrize("value", [True, "1", [], float("nan"), float("inf"), -1.0, 10**400], ids=short)
def test_what_is_no_number_in_range(value) -> None:
    with pytest.raises(LoadError, match="x must be a number from 0 to"):
        Config({"x": value}).number("x")


def test_a_bound_is_over_zero_where_it_is_said() -> None:
    """transformers makes every number 0 of a bound of 0."""
    assert [Config(c).bound("cap") for c in ({"cap": 2.5}, {"cap": None}, {})] == [2.5, 0.0, 0.0]
    with pytest.raises(LoadError, match="cap must be a number from 1e-06"):
        Config({"cap": 0.0}).bound("cap")


def test_what_is_no_flag_choice_or_object() -> None:
    with pytest.raises(LoadError, match="f must be true or false, not 1"):
        Config({"f": 1}).flag("f", False)
    with pytest.raises(LoadError, match=r"s \['silu'\] is not supported; supported are silu"):
        Config({"s": ["silu"]}).choice("s", ["silu"])
    with pytest.raises(LoadError, match="o must be an object, not 3"):
        Config({"o": 3}).section("o")
    with pytest.raises(LoadError, match="n 4 is not a multiple of h 12"):
        CONFIG.quotient("n", "h")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "is not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice"),
        (b"[1]", "is not a JSON object"),
    ],
    ids=lambda v: v[:12] if isinstance(v, bytes) else "",
)
def test_what_is_no_json_object(raw, message) -> None:
    with pytest.raises(LoadError, match=f"^there: .*{message}"):
        parse_object(raw, "there")


def test_what_is_no_file(tmp_path) -> None:
    with pytest.raises(LoadError, match="No such file"):
        read_object(tmp_path / "config.json")
    with pytest.raises(LoadError, match="is not a file"):
        read_object(tmp_path)


# --------------------------------------------------------------------------------------------------- the account


def test_every_field_is_read_inert_or_named() -> None:
    config = Config({"n": 1, "o": {"k": 3, "l": 4}, "dtype": "f32", "_note": 1, "none": None, "x": 2})
    assert config.integer("n") == 1
    assert config.unread() == ["o={'k': 3, 'l': 4}", "x=2"]
    assert config.section("o").integer("k") == 3
    assert config.unread() == ["o.l=4", "x=2"]
    assert config.unread(["x", "l"]) == []


def test_a_field_that_must_be_so_is_named_where_it_is_not() -> None:
    assert Config({"is_decoder": True, "pruned_heads": {}}).unread() == ["is_decoder=True"]
    assert Config({"a": 1, "b": 1}).unread(fixed={"a": 1, "b": 2}) == ["b=1"]


def test_a_family_has_other_names_and_defaults_and_what_it_reads_is_read() -> None:
    config = Config({"n_embd": 8, "n_inner": None, "wide": 3})
    family = config.of_family({"hidden_size": "n_embd", "inner": ("n_inner", "wide")}, {"inner": 5, "heads": 4})
    assert (family.integer("hidden_size"), family.integer("inner"), family.integer("heads")) == (8, 3, 4)
    assert config.unread() == []
    both = Config({"num_layers": 12, "decoder_layers": 6})
    assert both.of_family({"num_layers": "decoder_layers"}, {}).integer("num_layers") == 6  # its own name goes first
    assert not Config({"inner": None}).of_family({}, {"inner": 5}).has("inner")  # null is a mention


def test_a_section_under_another_name_is_accounted_for_field_by_field() -> None:
    config = Config({"scaling": {"factor": 2.0, "odd": 1}}).of_family({"rope_scaling": "scaling"}, {})
    assert config.section("rope_scaling").number("factor") == 2.0
    assert config.unread() == ["scaling.odd=1"]
